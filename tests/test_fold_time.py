"""No text takes long to fold, however it is made."""

import itertools
import time

import pytest

from model.fold import fold_text


@pytest.mark.parametrize(
    "text",
    [
        "a" + "\u0301\u0323" * 50_000,
        "\ufdfa" * 50_000,
        "а1" * 100_000,
        "1" * 200_000 + " é",
        "a." * 200_000,
        "a - " * 100_000 + "aa",
        "ab'cd " * 60_000,
        "infor mation " * 20_000,
        "aabb " * 80_000,
        "h t t p : / / a " * 20_000,
        "h77p:x.c0" * 30_000,
        "\n." * 150_000,
        "a.\n." * 100_000,
        "x.c0m!" * 50_000,
        "f0-" * 100_000,
        "fr33 c@$h " * 50_000,
        "A" * 100 + " '(@b0ut A&" * 20_000,
        "&amp;" * 60_000,
        "&" + "amp;" * 80_000 + "<br>" * 50_000,
        "&#&a&#x" * 40_000,
        "<a " * 100_000,
        "1'1" * 100_000,
        "l@ndl1n3a1b0c3d4e5 " * 25_000,
        "a!" * 200_000,
        "a|b|c" * 80_000,
        "(a" * 150_000,
        "a" * 200_000 + "é",
        " ," * 200_000,
        "( ' t" * 100_000,
        ". -" * 150_000,
        ".\t" * 150_000,
        "\n" * 300_000,
        "' s ?" * 100_000,
        "a , b . " + "http : / / a . com / b . " * 8_000,
        "a , b . " + "x . x @ " * 25_000,
        "a , b . " + "a _ " * 50_000,
        "a , b-c ; d" * 30_000,
        "= " * 50_000 + "=x . , . ,",
        "ab " * 200_000,
        "a*" * 200_000,
        "a|||||" * 60_000,
        "f*r*e " * 60_000,
        "'a" * 150_000,
        "a" * 300_000,
        "aB" * 150_000,
        "[b" * 150_000 + "[/b]",
        "[b=" * 100_000 + "[/b]",
        "&#0" * 100_000,
        "\x1b[1" * 100_000,
        "a\u200a" * 150_000,
        "a " * 150_000,
        "A b ' 1 " * 40_000,
        "th e " * 60_000,
        "'a' " * 75_000,
        "aabb " * 60_000,
        "hello there " * 8_000 + "\n" + "q x z v w abc " * 7_000,
        "кіс " * 75_000,
        "a - " * 50_000,
        "x · " * 50_000,
        "· " * 100_000,
        "“x” " * 50_000,
        "aaabbb " * 30_000,
        "an'am " * 35_000,
        "a~" * 100_000,
        "&#38;#38; " + " ".join(map("#".join, itertools.product("bcdfgBCDFGh", repeat=4))),
    ],
)
def test_time_is_bounded(text: str) -> None:
    start = time.process_time()
    fold_text(text)
    assert time.process_time() - start < 3
