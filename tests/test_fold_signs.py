"""What tells sooner that a text has no disguise of some kind never passes over one."""

import dataclasses
import random
import re

import pytest

from model import broken, leet, lines, misspelled, spelled
from model.fold import fold_text

_WORDS = "free cash win viagra information channel don't a I 5 08712 £9.50 www.site.com".split()
_BETWEEN = [*" .-_*/|,~\n\t'", *" - ;, ; . ; _ ;\n\n;  ;][;) (;--;-\n;".split(";")]
_EDGES = ["", "", " ", "(", "\n", "[", "]", "*", ", ", "! ", "= ", "\u2028"]
_ANYTHING = re.compile("")


def texts(number: int) -> list[str]:
    draw = random.Random(0)

    def word() -> str:
        characters = draw.choice(_WORDS)
        if draw.random() < 0.2:
            characters = "".join(2 * character for character in characters)
        if draw.random() < 0.3:
            place = draw.randrange(len(characters))
            behind = characters[place + draw.randrange(2) :]
            characters = characters[:place] + draw.choice([*"*#@03 '-", "-\n"]) + behind
        between = draw.choice(_BETWEEN) if draw.random() < 0.6 else ""
        return draw.choice(_EDGES) + between.join(characters) + draw.choice(_EDGES)

    return [
        draw.choice([" ", "\n", ""]).join(word() for _ in range(draw.randrange(1, 6)))
        for _ in range(number)
    ]


def test_signs_pass_over_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told_soon = [fold_text(text) for text in texts(3000)]
    for name, rule in vars(spelled).items():
        if isinstance(rule, spelled._Spelling):
            monkeypatch.setattr(spelled, name, dataclasses.replace(rule, sign=_ANYTHING))
    for module, name in (
        (spelled, "_LETTERS_IN_A_ROW"),
        (broken, "_DOUBLE"),
        (broken, "_HYPHEN_AT_END"),
        (misspelled, "_HOLE"),
        (leet, "_STAND_IN"),
        (lines, "_ODD_BLANK"),
    ):
        monkeypatch.setattr(module, name, _ANYTHING)
    for text, soon in zip(texts(3000), told_soon, strict=True):
        assert fold_text(text) == soon, text
    changed = sum(soon != text for text, soon in zip(texts(3000), told_soon, strict=True))
    assert changed > 2000
