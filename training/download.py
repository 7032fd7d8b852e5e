"""Files from their publishers, checked by their hash; the SMS Spam Collection."""

import hashlib
import io
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from http.client import HTTPException, IncompleteRead
from pathlib import Path

from model.folders import new_file
from training.config import CorpusError

SMS_FILE = "SMSSpamCollection"
_CACHE = Path.home() / ".cache" / "spamgate"
_MAX_BYTES = 64 << 20
_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


def find_sms_file(data: Path | None, urls: Sequence[str], sha256: str) -> Path:
    """The SMS Spam Collection: given, fetched earlier, or downloaded now.

    Args:
        data: the file, or a folder that holds it; None to download.
        urls: zip files that hold it, tried in order.
        sha256: hex digest of the unpacked file; empty accepts any.

    Raises:
        CorpusError: no file, no answer from any URL, or other content than the digest's.
    """
    if data is None:
        path = _CACHE / SMS_FILE
        if not path.exists():
            download(path, urls, sha256)
    else:
        path = data / SMS_FILE if data.is_dir() else data
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"cannot read the corpus {path}: {error.strerror}.") from error
    check_sha256(content, sha256, str(path))
    return path


def download(path: Path, urls: Sequence[str], sha256: str) -> None:
    """Fetches the file of ``path``'s name from the first zip file of these that holds it.

    Raises:
        CorpusError: none does, or the file has another hash.
    """
    failures = []
    for url in urls:
        try:
            content = zipfile.ZipFile(io.BytesIO(fetch(url))).read(path.name)
        except (OSError, HTTPException, ValueError, KeyError, *_DAMAGED_ZIP) as error:
            failures.append(f"{url}: {error}")
            continue
        check_sha256(content, sha256, url)
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as partial:
            partial.write_bytes(content)
        return
    raise CorpusError(
        "the SMS Spam Collection could not be downloaded "
        f"({'; '.join(failures) or 'the recipe names no URL'}). Fetch it by hand (UCI data set "
        "228), and give its place with --data or lay it into training.get_data's folder."
    )


def fetch(url: str) -> bytes:
    """What a URL answers, of which a line tells; 64 MiB of it at most.

    Raises:
        OSError, HTTPException, ValueError: no such place, no answer, or one that breaks off.
    """
    print(f"downloading {url}", flush=True)
    with urllib.request.urlopen(url, timeout=60) as response:
        content: bytes = response.read(_MAX_BYTES)
        expected = min(int(response.headers["Content-Length"] or 0), _MAX_BYTES)
    if len(content) < expected:  # which http.client lets pass where it is asked for a number
        raise IncompleteRead(content, expected - len(content))
    return content


def check_sha256(content: bytes, expected: str, origin: str) -> None:
    """Refuses content of another hash; an empty one accepts any.

    Raises:
        CorpusError: another hash.
    """
    actual = hashlib.sha256(content).hexdigest()
    if expected and actual != expected:
        raise CorpusError(
            f"{origin} is not the file that the recipes were written for: its SHA-256 is {actual}, "
            f"expected {expected}. For other data take a recipe of your own without data_sha256, "
            "such as training/configs/base_own.toml."
        )
