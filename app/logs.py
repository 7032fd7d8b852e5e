"""Logs as one JSON object a line on standard error. No event ever carries text of a message."""

import json
import logging
import sys
import time
from contextlib import suppress

_OWN_ATTRIBUTES = set(vars(logging.makeLogRecord({}))) | {"message", "color_message", "taskName"}


class JSONFormatter(logging.Formatter):
    """Time, level, logger and event, then whatever came as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        event = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        extra = {k: v for k, v in vars(record).items() if k not in _OWN_ATTRIBUTES}
        if record.exc_info and record.exc_info[0]:
            extra["error"] = record.exc_info[0].__name__  # its message may hold anything
        return json.dumps(event | extra, default=str)


def print_reason(reason: str) -> None:
    """Says on standard error why the process ends; where that cannot be written, it ends, too."""
    with suppress(OSError):  # a full disk, or a pipe that nobody reads
        print(f"spamgate: {reason}", file=sys.stderr, flush=True)  # noqa: T201


def reason_of(error: Exception) -> str:
    """What an error says, in one line."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line.encode("utf-8", "replace").decode()  # it may name a path that is not UTF-8


def configure_logs(level: str) -> None:
    """Sends all logs of this level and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
