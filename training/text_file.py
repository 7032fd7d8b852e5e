"""Files of UTF-8, packed or not, to text."""

import gzip
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path
from shlex import quote

from training.config import CorpusError


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, gzipped if named .gz; without the mark in front and the carriage
    returns that Windows puts there.

    Raises:
        CorpusError: no such file, damaged, or not UTF-8.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"{path} is not a whole gzip file: {error}.") from error
    except OSError as error:
        raise CorpusError(f"cannot read the corpus {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path} is not UTF-8 at byte {error.start}: convert it from the charset that it has, "
            f"such as by {_conversion(path, content)}."
        ) from error


def _conversion(path: Path, content: bytes) -> str:
    """The command that makes UTF-8 of a file, its charset guessed."""
    charset = "UTF-16" if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "WINDOWS-1252"
    reader, name = ("zcat", path.stem) if path.suffix == ".gz" else ("cat", path.name)
    return f"{reader} {quote(str(path))} | iconv -f {charset} -t UTF-8 > {quote(f'utf8-{name}')}"
