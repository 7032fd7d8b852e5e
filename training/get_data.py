"""``python -m training.get_data FOLDER``: the starter's corpora from their publishers.

SMS Spam Collection and YouTube Spam Collection (UCI Machine Learning Repository, data sets 228 and
380) and SpamAssassin's public mail corpus; NOTICE names their authors and licences. What FOLDER
holds already is not fetched again. Every archive is checked by its SHA-256.
"""

import argparse
import bz2
import csv
import gzip
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from model.folders import new_file, new_folder
from training.command import check_folder, exit_code
from training.config import CorpusError, load_config
from training.corpora import sha256_of
from training.download import SMS_FILE, check_sha256, download, fetch
from training.provenance import read_run

_ROOT = Path(__file__).resolve().parents[1]
_SMS_RECIPE = _ROOT / "training/configs/book_last_block.toml"
_STARTER = _ROOT / "checkpoints/starter"
# As SpamAssassin names its messages: a number and their MD5. What else its archives hold is none.
_MESSAGE = re.compile(r"\d{5}\.[0-9a-f]{32}")


@dataclass(frozen=True)
class Archive:
    """A file at its publisher's, and the SHA-256 that it has there."""

    url: str
    sha256: str

    def fetch(self) -> io.BytesIO:
        """What it holds.

        Raises:
            CorpusError: no answer, or another file.
        """
        try:
            content = fetch(self.url)
        except (OSError, HTTPException, ValueError) as error:
            raise CorpusError(
                f"{self.url} could not be downloaded ({error}). Try again: whole corpora stay."
            ) from error
        check_sha256(content, self.sha256, self.url)
        return io.BytesIO(content)


COMMENTS = Archive(
    "https://archive.ics.uci.edu/static/public/380/youtube+spam+collection.zip",
    "bd6182891adb3cfc8334b82c062176dfbebc563bf0ba07e31c2645f916865a0a",
)
_MAIL_SITE = "https://spamassassin.apache.org/old/publiccorpus"
MAIL = {
    "easy-ham-1": Archive(
        f"{_MAIL_SITE}/20030228_easy_ham.tar.bz2",
        "2b7b65904bcfcc31d2b5f51946f2d261370b257402cbbd62930b46ab83367438",
    ),
    "easy-ham-2": Archive(
        f"{_MAIL_SITE}/20030228_easy_ham_2.tar.bz2",
        "b4bd3dc5ae5b40f38e99a0e41ad7d16b428b56e818e3a6ffa07330d62004dd38",
    ),
    "hard-ham-1": Archive(
        f"{_MAIL_SITE}/20030228_hard_ham.tar.bz2",
        "ce2ce67880643dbde65ea7f85bffbfe4417349c4bd80b6b0de56262ae6b0a9c9",
    ),
    "spam-1": Archive(
        f"{_MAIL_SITE}/20030228_spam.tar.bz2",
        "c08debc32413804949a866be45ef78195cec2cbafd1da744ed76cdb860589743",
    ),
    "spam-2": Archive(
        f"{_MAIL_SITE}/20050311_spam_2.tar.bz2",
        "44280a0e28bf7645b2279e8e42659271ad82c6f40bf8d364dbda7f1df344a765",
    ),
}


def get_sms(path: Path) -> None:
    """The SMS Spam Collection as it is published.

    Raises:
        CorpusError: it could not be downloaded, or is another file.
    """
    recipe = load_config(_SMS_RECIPE)
    download(path, recipe.data_urls, recipe.data_sha256)


def get_comments(path: Path, archive: Archive = COMMENTS) -> None:
    """The YouTube Spam Collection's tables as one file of JSON lines, without authors and dates.

    Raises:
        CorpusError: it could not be downloaded, or is another file.
    """
    lines = []
    with zipfile.ZipFile(archive.fetch()) as tables:
        for name in sorted(tables.namelist()):
            if not re.fullmatch(r"Youtube\d+-\w+\.csv", name):  # what a Mac has packed beside it
                continue
            table = io.StringIO(tables.read(name).decode("utf-8-sig"), newline="")
            for number, row in enumerate(csv.DictReader(table), start=1):
                entry = {
                    "id": f"{name.removesuffix('.csv')}-{number}",
                    "label": "spam" if row["CLASS"] == "1" else "ham",
                    "text": row["CONTENT"],
                }
                lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    with new_file(path) as partial, partial.open("wb") as file:
        # Neither name nor time, so that the same texts make the same file.
        with gzip.GzipFile("", "wb", compresslevel=9, fileobj=file, mtime=0) as packed:
            packed.write("".join(lines).encode())


def get_mail(path: Path, archives: dict[str, Archive] = MAIL) -> None:
    """SpamAssassin's raw messages, a folder for each group.

    Raises:
        CorpusError: one of the archives could not be downloaded, or is another file.
    """
    with new_folder(path) as partial:
        for group, archive in archives.items():
            (partial / group).mkdir()
            with tarfile.open(fileobj=bz2.open(archive.fetch())) as messages:
                for member in messages:
                    name = PurePosixPath(member.name).name
                    content = messages.extractfile(member) if _MESSAGE.fullmatch(name) else None
                    if content is not None:  # of a folder it is
                        (partial / group / f"{name}.txt").write_bytes(content.read())


CORPORA = {SMS_FILE: get_sms, "youtube-spam.jsonl.gz": get_comments, "spamassassin": get_mail}
"""What the folder holds in the end, and how it gets there."""


def get_data(folder: Path) -> None:
    """Lays what is missing of ``CORPORA`` into a folder.

    Raises:
        CorpusError: as for the functions above; the corpora that had come before stay.
        OSError: a folder that cannot be written to.
    """
    learnt = read_run(str(_STARTER)).get("data_sha256") or {}
    for name, get in CORPORA.items():
        path = folder / name
        if path.exists():
            print(f"{path} is there already")
        else:
            check_folder(path)
            get(path)
        if sha256_of(path) != learnt.get(name):
            print(
                f"{path} is not byte for byte what the starter has learnt from. The recipes train "
                "with it; commands that judge the starter by its own test part refuse it."
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetches what is missing. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.get_data", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("folder", type=Path, help="where the corpora come to lie")
    options = parser.parse_args(arguments)

    def run() -> int:
        get_data(options.folder)
        return 0

    return exit_code("training.get_data", run)


if __name__ == "__main__":
    raise SystemExit(main())
