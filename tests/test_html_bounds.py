"""HTML that is deep, long or in frames: read in bounded time, and with what it shows."""

import time

import pytest
from resiliparse.parse.html import HTMLTree

from model.html import read_html
from model.lists import flatten_lists


@pytest.mark.parametrize(
    "deep",
    [
        "<div><rt>x" * 10_000,
        "<select><option>x</select>" * 11_000,
        "<div><object></div></object>x" * 12_000,
        "".join(f"<p><b id={n}>x" for n in range(1_000)),
    ],
)
def test_what_is_nested_too_deeply_is_read_flat(deep: str) -> None:
    rest = "<p>V<b>i</b>agra</p><template>a</template><img alt=now><input value=buy><xmp><b></xmp>"
    text = read_html(f"<div style='display:none'>{deep}</div>{rest}").text
    assert len(text) < 20 * len(deep)
    assert {"Viagra", "a", "now", "buy", "<b>"} <= {word.strip("[]") for word in text.split()}


@pytest.mark.parametrize(
    ("lists", "is_moved"),
    [("<ul>" * 9_900, False), ("<ul><li>" * 4_900, False), ("<ul><li>" * 13, True)],
)
def test_text_in_nested_lists_is_not_set_in_for_ever(lists: str, is_moved: bool) -> None:
    """Nor moved out of so many that it would take long."""
    html = f"{lists}<p>one<ul><li>two</ul>"
    tree = HTMLTree.parse(html)
    assert tree.document is not None
    assert flatten_lists(tree.document) is is_moved
    text = read_html(html).text
    assert text.split() == ["one", "two"]
    assert len(text) < 100


def test_frames_in_frames_are_read_in_bounded_time() -> None:
    frame = "one"
    for _ in range(500):
        for character in "&<>":
            frame = frame.replace(character, f"&#{ord(character)};")
        frame = f"<iframe/srcdoc={frame}>"
    start = time.process_time()
    assert read_html(f"{frame}</iframe><p>seen").text == "seen"
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<template>no</template>seen", "seen"),
        ("<div><template shadowrootmode=open><p>one</template></div>two", "one\n\ntwo"),
        ("<template shadowrootmode=open>one<template>no</template>two</template>", "onetwo"),
        ("<iframe srcdoc='&lt;p>one'></iframe>", "one"),
        (
            "seen<iframe srcdoc='<template><p>one'></iframe><iframe srcdoc=two></iframe>",
            "seen one two",
        ),
        ("<iframe srcdoc='<iframe srcdoc=&quot;one&quot;>'></iframe>", "one"),
        ("<p>seen twice<iframe srcdoc='<b>twice</b>'></iframe>", "seen twice"),
    ],
)
def test_what_shadows_and_frames_hold_is_read(html: str, text: str) -> None:
    assert read_html(html).text.split() == text.split()


@pytest.mark.parametrize(
    "long",
    [
        "".join(f"<div><font color=#{n:06x}>x</font></div>" for n in range(2_500)),
        "<table><tr><td><font color=red><b>x</td></tr></table>" * 1_000,
        "<li><b>x</b><br><hr>" * 5_000,
        "<ul><li>x</ul>" * 1_000,
        "<table><tr><td>" * 30 + "<p>x" * 10_000 + "</table>" * 30,
    ],
)
def test_what_is_hidden_in_a_long_document_is_not_read(long: str) -> None:
    text = read_html(f"{long}<p>seen<i style='display:none'>hidden</i>").text
    assert text.endswith("seen")


def test_what_is_read_of_a_document_shares_what_its_trees_may_cost() -> None:
    own = "<p>one</p><!--[if mso]><p>two<i style='display:none'>hidden</i></p><![endif]-->"
    cost = read_html(own).num_steps
    assert read_html(own, max_steps=cost).text.split() == ["one", "two"]
    assert "hidden" in read_html(own, max_steps=cost - 1).text
    short, long = (f"{own}<iframe srcdoc='{'<p>three' * n}'></iframe>" for n in (1, 9))
    assert read_html(long).num_steps > read_html(short).num_steps > cost
