"""POST /feedback: labels that people give to messages, kept for a later training run.

Off without a key of its own. Nothing is learnt here: reports are appended to a SQLite file,
durably, and ``training.feedback`` reads them. Reports can poison a model, so each names its source.
"""

import asyncio
import hashlib
import logging
import re
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.bodies import read_json
from app.errors import (
    AccessDenied,
    BodyTooLarge,
    FeedbackBusy,
    FeedbackFull,
    MalformedBody,
    QueueFull,
    UnknownEncoding,
)
from app.mail import MAIL_CONTENT, is_json, read_message
from app.problems import error_responses
from app.schemas import EXAMPLE_TEXTS, FeedbackResponse
from app.settings import SettingsError
from model.fold import fold_text
from model.gpt2 import LABELS
from model.mail import MAX_CHARACTERS, head_and_tail, message_to_text

MAX_SOURCE_CHARACTERS = 100
MAX_TEXT_CHARACTERS = 20_000

_log = logging.getLogger("spamgate")

# Less than clients wait for an answer (app.spamd: 4 s).
_LOCKED_SECONDS = 2.0
_RETRY_SECONDS = 0.05
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS feedback (
    digest TEXT NOT NULL,    -- SHA-256 of the folded text
    source TEXT NOT NULL,    -- who says so
    label TEXT NOT NULL,     -- ham or spam
    text TEXT,               -- NULL where only the digest was told
    received REAL NOT NULL,  -- Unix time
    PRIMARY KEY (digest, source)
)
"""
_TOUCH_ALL = """
UPDATE feedback SET digest = digest, source = source, label = label, text = text,
    received = received WHERE 0
"""


@dataclass(frozen=True)
class Report:
    """One label for one text, by one source."""

    digest: str
    label: str
    source: str
    text: str | None


class FeedbackStore:
    """Reports in a SQLite file, used by one thread at a time.

    Args:
        path: the file; made where it is missing.
        max_bytes: size from which on new reports are refused.

    Raises:
        SettingsError: the file can be neither written nor made.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._turn = asyncio.Lock()
        self._path = path
        with suppress(OSError):  # SQLite says why in its own words
            path.touch(mode=0o600)  # others on this machine need not read the mail in it
        try:
            self._connection = sqlite3.connect(
                path.absolute(), _LOCKED_SECONDS, check_same_thread=False, isolation_level=None
            )
            self._prepare(time.monotonic() + _LOCKED_SECONDS)
            self._opened = self._file_there()
        except sqlite3.Error as error:
            raise SettingsError(
                f"feedback_file is {path}: {error}. Give an SQLite file of this service, or a new "
                "one in a folder that may be written to."
            ) from error

    def _prepare(self, deadline: float) -> None:
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            # Each report is on the disk before it is acknowledged.
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute(_SCHEMA)
            # Where a table is there, nothing has been written yet, and perhaps nothing may be, or
            # it is another program's.
            self._connection.execute(_TOUCH_ALL)
        except sqlite3.OperationalError as error:
            # Of several workers on a new file one may be told so at once, whatever the timeout.
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
            self._prepare(deadline)

    async def add_in_turn(self, report: Report) -> bool:
        """``add`` in a thread, one at a time: others, who wait for a locked file, hold none.

        Raises:
            FeedbackFull, FeedbackBusy: as for ``add``.
        """
        try:
            async with asyncio.timeout(_LOCKED_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise _busy() from None
        adding = asyncio.ensure_future(asyncio.to_thread(self.add, report))
        # Not before the thread has ended, though who waits for it may have gone.
        adding.add_done_callback(lambda _: self._turn.release())
        return await asyncio.shield(adding)

    def add(self, report: Report) -> bool:
        """Appends a report; a source that reports a text again changes its mind.

        Returns:
            False where this source has said the same before, and sends no text that was missing.

        Raises:
            FeedbackFull: there is no room.
            FeedbackBusy: another program has locked the file for seconds, the disk fails, or the
                file is not at its place any more.
        """
        if self._file_there() != self._opened:
            _log.error("feedback not kept", extra={"reason": "its file is not at its place"})
            raise FeedbackBusy(
                "The file of feedback was moved or removed while it was open. Start the service "
                "again."
            )
        try:
            return self._add(report)
        except sqlite3.DatabaseError as error:
            code = error.sqlite_errorcode & 0xFF  # beyond that it tells which kind of the same
            if code == sqlite3.SQLITE_FULL:
                raise FeedbackFull("The disk of the file of feedback is full.") from error
            if code == sqlite3.SQLITE_BUSY:
                raise _busy() from error
            # Its words are about the file alone: "disk I/O error" where a quota is used up, too.
            _log.error("feedback not kept", extra={"reason": str(error)})
            raise FeedbackBusy(
                f"The file of feedback cannot be written ({error}). Check its disk and quota."
            ) from error

    def _add(self, report: Report) -> bool:
        with closing(self._connection.cursor()) as cursor:
            known = cursor.execute(
                "SELECT label, text IS NOT NULL FROM feedback WHERE digest = ? AND source = ?",
                (report.digest, report.source),
            ).fetchone()
            if known and known[0] == report.label and (known[1] or report.text is None):
                return False
            [[pages]] = cursor.execute("PRAGMA page_count").fetchall()
            [[page_bytes]] = cursor.execute("PRAGMA page_size").fetchall()
            has_text = report.text is not None and not (known and known[1])
            # Another label takes the room of the one before.
            if (known is None or has_text) and pages * page_bytes >= self._max_bytes:
                raise FeedbackFull(
                    f"The file of feedback has {pages * page_bytes} bytes; at most "
                    f"{self._max_bytes} are kept. After a training run stop the service, move the "
                    "file away and start it again."
                )
            cursor.execute(
                "INSERT INTO feedback VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                "label = excluded.label, received = excluded.received, "
                "text = coalesce(feedback.text, excluded.text)",
                (report.digest, report.source, report.label, report.text, time.time()),
            )
        return True

    def _file_there(self) -> tuple[int, int] | None:
        """What tells the file at the path from any other; None where there is none."""
        with suppress(OSError):
            status = self._path.stat()
            return status.st_dev, status.st_ino
        return None

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()


def _busy() -> FeedbackBusy:
    reason = (
        "The file of feedback is locked by another program, or by more reports than it takes at a "
        "time. Try again."
    )
    return FeedbackBusy(reason, retry_after_seconds=1)


router = APIRouter()

_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["label"],
                "description": "One of digest, text and message.",
                "properties": {
                    "digest": {
                        "type": "string",
                        "description": "SHA-256 of the text as the model reads it.",
                    },
                    "text": {"type": "string"},
                    "message": {"type": "string", "description": "Raw, header fields and all."},
                    "label": {"enum": list(LABELS)},
                    "source": {
                        "type": "string",
                        "maxLength": MAX_SOURCE_CHARACTERS,
                        "description": "Who says so.",
                    },
                },
                "examples": [{"text": EXAMPLE_TEXTS[0], "label": "spam", "source": "joe"}],
            }
        },
        **MAIL_CONTENT,
    },
}


@router.post(
    "/feedback",
    summary="Tell what a message really is",
    responses=error_responses(
        AccessDenied,
        MalformedBody,
        UnknownEncoding,
        BodyTooLarge,
        QueueFull,
        FeedbackFull,
        FeedbackBusy,
    ),
    openapi_extra={"requestBody": _BODY},
)
async def feedback(
    request: Request,
    label: Annotated[str | None, Query(description="ham or spam, of a raw message.")] = None,
    source: Annotated[str | None, Query(description="Who says so, of a raw message.")] = None,
) -> FeedbackResponse:
    """Keeps a label for a later training run; the model of the moment does not change."""
    if is_json(request):
        told = await read_json(request)
        if not isinstance(told, dict):
            raise MalformedBody("The body is not a JSON object.")
    else:
        body, _ = await read_message(request)
        told = {"message": body, "label": label, "source": source}
    store: FeedbackStore = request.app.state.feedback
    report = await asyncio.to_thread(_report, told)
    return FeedbackResponse(digest=report.digest, new=await store.add_in_turn(report))


def _report(told: dict[str, Any]) -> Report:
    label = told.get("label")
    if label not in LABELS:
        raise MalformedBody(
            "label must be ham or spam: in JSON, sent with Content-Type: application/json, or "
            "beside a raw message in the URL, ?label=spam."
        )
    source = told.get("source") or "unknown"
    if not isinstance(source, str):
        raise MalformedBody("source must be a text.")
    text, digest = told.get("text"), told.get("digest")
    message = told.get("message")
    if isinstance(message, str):
        message = _bytes_of(message)
    if not isinstance(text, str | None) or not isinstance(message, bytes | None):
        raise MalformedBody("text and message must be texts.")
    if isinstance(message, bytes):
        text = message_to_text(message).text
    if isinstance(text, str):
        text = fold_text(head_and_tail(text, MAX_CHARACTERS)).encode("utf-8", "replace").decode()
        if not text.strip():
            raise MalformedBody("The message has neither subject nor text: nothing to learn from.")
        digest = digest_of(text)
        text = text[:MAX_TEXT_CHARACTERS]
    elif not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise MalformedBody("One of digest (64 hex digits), text and message must be a text.")
    return Report(digest.lower(), label, _clean(source), text)


def _bytes_of(message: str) -> bytes:
    """The bytes of a raw message in JSON; those that are not UTF-8 travel as lone surrogates."""
    try:
        return message.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # other surrogates
        return message.encode("utf-8", "replace")


def _clean(source: str) -> str:
    return source[:MAX_SOURCE_CHARACTERS].encode("utf-8", "replace").decode()


def digest_of(folded_text: str) -> str:
    """SHA-256 of a text as the model reads it, 64 hex digits."""
    return hashlib.sha256(folded_text.encode("utf-8", "replace")).hexdigest()
