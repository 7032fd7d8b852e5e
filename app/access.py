"""Access keys: several, read from a file and kept as hashes only."""

import hashlib
import secrets
from collections.abc import Collection
from pathlib import Path

from pydantic import SecretStr
from starlette.requests import Request

from app.errors import AccessDenied


class KeysError(ValueError):
    """A file of access keys that cannot be used."""


class AccessKeys:
    """The keys of a file, of which the hashes alone are kept. Without a file, everybody may ask."""

    def __init__(self, path: Path | None) -> None:
        """Reads the file.

        Raises:
            KeysError: as for ``read``.
        """
        self._path = path
        self._hashes: set[bytes] = set()
        self.read()

    def __len__(self) -> int:
        return len(self._hashes)

    def read(self) -> None:
        """Reads the file, anew where it was read before; from then on its keys alone count.

        It has ``name key`` lines; blank lines and lines that start with # do not count. The names
        are for whoever keeps the file.

        Raises:
            KeysError: unreadable, a line of another form, or no key at all. The keys so far stay.
        """
        if self._path is not None:
            self._hashes = _read(self._path)

    def admit(self, request: Request) -> None:
        """Lets a request with one of the keys through, as Bearer token or X-API-Key.

        Raises:
            AccessDenied: no key, or an unknown one.
        """
        if not self._hashes:
            return
        if not _shows_one_of(self._hashes, request):
            raise AccessDenied(
                "Send one of the access keys: Authorization: Bearer KEY, or X-API-Key."
            )


def _read(path: Path) -> set[bytes]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"the file of access keys cannot be read: {error}") from error
    hashes = set()
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise KeysError(f"{path}, line {number}: a line is a name, a blank and a key.")
        hashes.add(_hash(words[1]))
    if not hashes:
        raise KeysError(f"{path} holds no key: nobody could ask.")
    return hashes


def admit_with(request: Request, key: SecretStr, name: str) -> None:
    """Lets a request with this one key through.

    Raises:
        AccessDenied: another key came, or none; says that the ``name`` key is wanted.
    """
    if not _shows_one_of({_hash(key.get_secret_value())}, request):
        raise AccessDenied(f"Send the {name} key: Authorization: Bearer KEY, or X-API-Key.")


def _shows_one_of(known: Collection[bytes], request: Request) -> bool:
    # Every key is compared, in constant time: the time tells nothing.
    given = _given_keys(request)
    matches = [secrets.compare_digest(one, other) for one in given for other in known]
    return any(matches)


def _given_keys(request: Request) -> list[bytes]:
    """Hashes of the keys that came with a request, taken for UTF-8, one for each way to send it.

    Both count: a proxy may have put a token of its own where the client's was.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    keys = [token if scheme.lower() == "bearer" else "", request.headers.get("x-api-key", "")]
    # Of blanks, only those that HTTP knows: "à" and "х" end in a byte that is one in Latin-1.
    given = [key.strip(" \t").encode("latin-1") for key in keys]
    return [_hash(key.decode("utf-8", "surrogateescape")) for key in given]


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
