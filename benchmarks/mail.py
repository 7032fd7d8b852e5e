"""How fast raw messages become text, on one core, beside the standard library's parser.

    python -m benchmarks.mail FOLDER

FOLDER holds raw messages, such as the SpamAssassin corpus. The baseline parses with ``email`` and
undoes the transfer encoding, without charsets, HTML or hidden text. Writes results/mail.json and
prints it as the last line.
"""

import argparse
import email
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.environment import describe, write_result
from model.fold import fold_text
from model.mail import message_to_text

RESULT = Path(__file__).parent / "results" / "mail.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="raw messages, one a file, at any depth")
    folder = parser.parse_args().folder
    raws = [path.read_bytes() for path in sorted(folder.rglob("*.txt"))]
    if not raws:
        parser.error(f"no .txt files in {folder}")
    result = {
        "messages": len(raws),
        "mean_bytes": round(sum(map(len, raws)) / len(raws)),
        "message_to_text": measure(message_to_text, raws),
        "with_fold_text": measure(lambda raw: fold_text(message_to_text(raw).text), raws),
        "standard_library": measure(parse_by_standard_library, raws),
        **describe("benchmarks.mail", arguments="FOLDER"),
    }
    write_result(RESULT, result)


def measure(read: Callable[[bytes], object], raws: list[bytes]) -> dict[str, float]:
    """Processor time of reading each message once, after a warm-up on a tenth of them."""
    for raw in raws[::10]:
        read(raw)
    seconds = []
    for raw in raws:
        start = time.process_time()
        read(raw)
        seconds.append(time.process_time() - start)
    seconds.sort()
    return {
        "messages_per_second": round(len(seconds) / sum(seconds)),
        "p50_ms": round(1000 * seconds[len(seconds) // 2], 3),
        "p99_ms": round(1000 * seconds[len(seconds) * 99 // 100], 3),
        "max_ms": round(1000 * seconds[-1], 3),
    }


def parse_by_standard_library(raw: bytes) -> list[object]:
    """The parts of a message by ``email``, decoded as far as bytes."""
    return [part.get_payload(decode=True) for part in email.message_from_bytes(raw).walk()]


if __name__ == "__main__":
    main()
