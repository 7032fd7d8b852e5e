"""How many disguised spam texts are read as the plain ones: the model then sees no difference.

    python -m benchmarks.disguises SMSSpamCollection

Each spam text is sent as a raw message, once per disguise, and read as the service reads it. A text
that is read otherwise may still get the same verdict. Writes results/disguises.json and prints it
as the last line.
"""

import argparse
import random
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.environment import describe, write_result
from model.fold import fold_text
from model.mail import message_to_text
from training.command import exit_code
from training.corpora import CORPORA

RESULT = Path(__file__).parent / "results" / "disguises.json"
GOOD_WORDS = "the minutes of the meeting on Tuesday are attached see you then " * 20

_CYRILLIC = str.maketrans("aceopxyiAEOC", "асеорхуіАЕОС")
_BOLD = {ord("a") + n: chr(0x1D41A + n) for n in range(26)}
_FULLWIDTH = {code: chr(code + 0xFEE0) for code in range(0x21, 0x7F)}

_LEET = str.maketrans("aeiostAEIOST", "@310$7@310$7")
_ACUTE = str.maketrans("aeiouAEIOU", "áéíóúÁÉÍÓÚ")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"

Disguise = Callable[[str], bytes]


def plain(text: str) -> bytes:
    """A message of one plain part."""
    return b"Content-Type: text/plain; charset=utf-8\n\n" + text.encode("utf-8", "replace")


def html(body: str) -> bytes:
    """A message of one HTML part."""
    return b"Content-Type: text/html; charset=utf-8\n\n" + body.encode("utf-8", "replace")


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def every_second_long_word(text: str, change: Callable[[str], str]) -> str:
    """The text with every second word of four letters or more changed, and all blanks kept."""
    parts = re.split(r"(\s+)", text)  # words, and between them blanks
    long = [n for n in range(0, len(parts), 2) if len(parts[n]) >= 4]
    for n in long[::2]:
        parts[n] = change(parts[n])
    return "".join(parts)


def split(word: str, mark: str = " ") -> str:
    """A word with a blank or a mark in the middle."""
    return f"{word[: len(word) // 2]}{mark}{word[len(word) // 2 :]}"


def slip(text: str, change: Callable[[str, int, str], str]) -> str:
    """The text with every second long word changed at a place within, by a letter; both are drawn,
    for one text the same ones each time. The letter is another than stands there; so is the next in
    the word, where it has such a place."""
    rng = random.Random(text)

    def changed(word: str) -> str:
        places = range(1, len(word) - 1)
        n = rng.choice([n for n in places if word[n] != word[n + 1]] or places)
        return change(word, n, rng.choice(_LETTERS.replace(word[n].lower(), "")))

    return every_second_long_word(text, changed)


# Undone by the decoder and by folding.
FOLDED: dict[str, Callable[[str], str]] = {
    "zero-width spaces": lambda text: "\u200b".join(text),
    "soft hyphens": lambda text: "\u00ad".join(text),
    "combining strokes": lambda text: "\u0336".join(text),
    "bidi override": lambda text: "\u202e" + text.replace("\n", " ")[::-1],
    "fullwidth letters": lambda text: text.translate(_FULLWIDTH),
    "mathematical letters": lambda text: text.translate(_BOLD),
    "Cyrillic lookalikes": lambda text: text.translate(_CYRILLIC),
    "wide blanks": lambda text: text.replace(" ", " \t\xa0  "),
    "doubled letters": lambda text: "".join(c * 2 if c.isalpha() else c for c in text),
    "tripled letters": lambda text: "".join(c * 3 if c.isalpha() else c for c in text),
    "quoted words": lambda text: " ".join(f'"{word}"' for word in text.split()),
    "dots between words": lambda text: " · ".join(text.split()),
    "words in curly quotes": lambda text: " ".join(f"“{word}”" for word in text.split()),
    "words in brackets": lambda text: " ".join(f"[{word}]" for word in text.split()),
    "words in corner brackets": lambda text: " ".join(f"「{word}」" for word in text.split()),
    "a mark on each word": lambda text: " ".join(f"·{word}" for word in text.split()),
    "a mark between words": lambda text: "•".join(text.split()),
    "letters in boxes": lambda text: " ".join("".join(f"[{c}]" for c in w) for w in text.split()),
    "a foreign letter between": lambda text: " ".join("ㅡ".join(word) for word in text.split()),
    "accents": lambda text: text.translate(_ACUTE),
    "a letter drawn out": lambda text: slip(
        text, lambda w, n, _: w[:n] + w[n] * (3 if w[n].isalpha() else 1) + w[n + 1 :]
    ),
    "a line for each word": lambda text: "\n".join(text.split()),
}
# Undone in part, else left for the model to see through: honest texts hold such things, too.
UNFOLDED: dict[str, Callable[[str], str]] = {
    "leet": lambda text: every_second_long_word(text, lambda word: word.translate(_LEET)),
    "spaced words": lambda text: every_second_long_word(text, " ".join),
    "spaced letters": lambda text: " ".join(" ".join(word) for word in text.split()),
    "split words": lambda text: every_second_long_word(text, split),
    "dotted words": lambda text: every_second_long_word(text, ".".join),
    "hyphens and blanks": lambda text: every_second_long_word(text, " - ".join),
    "apostrophes within": lambda text: every_second_long_word(text, partial(split, mark="'")),
    "commas within": lambda text: every_second_long_word(text, partial(split, mark=",")),
    "line ends within": lambda text: every_second_long_word(text, partial(split, mark="\n")),
    "bars within": lambda text: every_second_long_word(text, "|".join),
    "a star for a letter": lambda text: slip(text, lambda w, n, _: f"{w[:n]}*{w[n + 1 :]}"),
    "two letters swapped": lambda text: slip(
        text, lambda w, n, _: w[:n] + w[n + 1] + w[n] + w[n + 2 :]
    ),
    "a letter less": lambda text: slip(text, lambda w, n, _: w[:n] + w[n + 1 :]),
    "a letter more": lambda text: slip(text, lambda w, n, letter: w[:n] + letter + w[n:]),
    "another letter": lambda text: slip(text, lambda w, n, letter: w[:n] + letter + w[n + 1 :]),
    "words joined in twos": lambda text: "".join(
        word + " " * (n % 2) for n, word in enumerate(text.split())
    ).rstrip(),
    "lower case": str.lower,
    "upper case": str.upper,
}


def as_message(disguise: Callable[[str], str]) -> Disguise:
    """The disguise as a raw message."""
    return lambda text: plain(disguise(text))


DISGUISES: dict[str, Disguise] = {
    **{name: as_message(disguise) for name, disguise in FOLDED.items()},
    "words split by tags": lambda text: html("<b></b>".join(map(escape, text))),
    "numeric entities": lambda text: html("".join(f"&#{ord(c)};" for c in text)),
    "ZeroFont": lambda text: html(
        "".join(f"{escape(c)}<i style='font-size:0'>dear friend</i>" for c in text)
    ),
    "hidden good words": lambda text: html(
        f"<div style='display:none'>{GOOD_WORDS}</div>{escape(text)}"
    ),
    "white on white": lambda text: html(f"{escape(text)}<font color=white>{GOOD_WORDS}</font>"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path, help="lines: label, tab, text")
    options = parser.parse_args(arguments)
    return exit_code("benchmarks.disguises", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    spam = [example.text for example in CORPORA["sms"](options.texts) if example.label]
    honest = [read(plain(text)) for text in spam]
    result = {
        "texts": len(spam),
        "read_as_the_plain_one": {
            name: sum(
                read(disguise(text)) == expected
                for text, expected in zip(spam, honest, strict=True)
            )
            for name, disguise in DISGUISES.items()
        },
        **describe("benchmarks.disguises", arguments=options.texts.name),
    }
    write_result(RESULT, result)
    return 0


def read(raw: bytes) -> str:
    """The text that the model gets of a raw message, blanks run together."""
    return " ".join(fold_text(message_to_text(raw).text).split())


if __name__ == "__main__":
    sys.exit(main())
