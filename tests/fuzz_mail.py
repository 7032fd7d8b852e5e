"""Coverage-guided fuzzing of the decoder: no exception, no hang, no lone surrogate.

    pip install atheris
    python -m tests.fuzz_mail CORPUS_FOLDER -max_total_time=1800 -timeout=5 -rss_limit_mb=2048

The corpus starts from the smaller hostile messages. What it finds goes to ``tests/hostile/`` as
``.eml`` and stays a test.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["model"]):
    from model.charset import decode_bytes
    from model.fold import fold_text
    from model.html import read_html
    from model.mail import MAX_CHARACTERS, message_to_text

from tests.hostile import HOSTILE

MAX_SEED_BYTES = 20_000


def check(data: bytes) -> None:
    """Decodes the bytes as a message and as HTML."""
    message = message_to_text(data)
    for value in (*message.readings, message.subject, message.charset, *message.parts):
        value.encode("utf-8")
    fold_text(message.text)
    if len(message.text) > MAX_CHARACTERS:
        raise AssertionError(f"{len(message.text)} characters")
    read_html(decode_bytes(data, "utf-8", is_html=True)[0]).text.encode("utf-8")


def main() -> None:
    """Writes the seeds into the first folder named and runs libFuzzer with all arguments."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for number, raw in enumerate(HOSTILE.values()):
        if len(raw) <= MAX_SEED_BYTES:
            (folder / f"seed-{number:03}").write_bytes(raw)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
