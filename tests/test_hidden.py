"""What only some mail programs hide stands in one reading, and in another not."""

import time

import pytest

from model.html import read_html
from model.mail import message_to_text

_PAGE = "<style>{}</style><div><div><p class=g>dear friend</p></div><p>buy now</p></div>"


def readings(html: str) -> list[list[str]]:
    raw = f"Subject: s\nContent-Type: text/html\n\n{html}".encode()
    return [reading.split()[1:] for reading in message_to_text(raw).readings]


@pytest.mark.parametrize(
    "css",
    [
        "div .g{display:none}",
        "div>p.g{display:none}",
        "div div .g{font-size:0}",
        ".g:first-child{display:none}",
        "p.g:not(.x){display:none}",
        ".y,p:is(.g,.x){display:none}",
        "[class]{display:none}",
        "p[class=g]{display:none}",
        ".x:hover,.g{display:none}",
        "@media screen{.g{display:none}}",
        "@media only screen and (min-width:320px){.g{display:none!important}}",
        "@media print, (min-width:1px){div .g{display:none}}",
        "@media (max-width:5000px){.g{display:none}}",
        "@supports (display:block){@layer a{.g{display:none}}}",
        "div .g{height:0;overflow:hidden}",
        "div .g{visibility:collapse}",
        "div .g{position:absolute;left:-9999px}",
        ".g{visibility:hidden}",
        ".g{position:fixed;top:-999em}",
        ".g{text-indent:-9999px}",
    ],
)
def test_a_rule_that_most_programs_heed_hides_in_the_least_reading(css: str) -> None:
    assert readings(_PAGE.format(css)) == [["dear", "friend", "buy", "now"], ["buy", "now"]]


@pytest.mark.parametrize(
    "css",
    [
        "@media print{.g{display:none}}",
        "@media screen and (max-width:600px){.g{display:none}}",
        "@media (min-width:900px){.g{display:none}}",
        "@supports (display:block){@media print{.g{display:none}}}",
        "@media (max-width:600px){@supports (display:block){.g{display:none}}}",
        ".h{.g{display:none}}",
        ".g:hover{display:none}",
        ".g::before{display:none}",
        "p[class='g']{display:none}",
        "div .h{display:none}",
        "div .g{color:red}",
        "div div div .g{display:none}",
        ".g{left:-9999px}",
        ".g{position:absolute;left:-99px}",
        "p.g{visibility:hidden} .g{visibility:visible!important}",
    ],
)
def test_a_rule_that_may_not_hold_or_hides_nothing_makes_no_other_reading(css: str) -> None:
    assert readings(_PAGE.format(css)) == [["dear", "friend", "buy", "now"]]


@pytest.mark.parametrize(
    "element",
    [
        "<p hidden>@</p>",
        "<p style='visibility:hidden'>@</p>",
        "<div style='max-height:0;overflow-y:hidden'>@</div>",
        "<div style='max-height:0;overflow:clip'>@</div>",
        "<span style='display:block;height:0;overflow:hidden'>@</span>",
        "<span style='display:inline-block;width:0;height:0;overflow:hidden'>@</span>",
        "<h1 style='height:0;overflow:hidden'>@</h1>",
        "<div style='position:absolute;left:-9999px'>@</div>",
        "<div style='text-indent:-9999px'>@</div>",
        "<div style='text-indent:-9999px'>@<i style='position:absolute'></i></div>",
    ],
)
def test_an_element_that_most_programs_hide_is_not_in_the_least_reading(element: str) -> None:
    html = f"{element.replace('@', 'dear friend')}<p>buy now</p>"
    assert readings(html) == [["dear", "friend", "buy", "now"], ["buy", "now"]]


@pytest.mark.parametrize(
    "element",
    [
        "<p hidden style='display:block'>@</p>",
        "<p style='visibility:hidden'><b style='visibility:visible'>@</b></p>",
        "<td style='height:0;overflow:hidden'>@</td>",
        "<span style='height:0;overflow-y:hidden'>@</span>",
        "<div style='height:0;overflow-y:hidden'><b style='position:absolute'>@</b></div>",
        "<div style='height:0;overflow:auto'>@</div>",
    ],
)
def test_what_all_programs_show_is_in_every_reading(element: str) -> None:
    html = f"{element.replace('@', 'dear friend')}<p>buy now</p>"
    assert readings(html) == [["dear", "friend", "buy", "now"]]


@pytest.mark.parametrize("selector", [".b .b .g", ".b ~ .b ~ .g", ".g:nth-child(2)", "i:not(.x)"])
def test_what_a_rule_selects_is_found_in_bounded_time(selector: str) -> None:
    rules = f"{selector}{{display:none}}" * 40
    many = "<i class=b>x</i>" * 300 + "<div class=b>" * 300 + "<i class=g>x</i>" * 8_000
    started = time.monotonic()
    read_html(f"<style>{rules}</style>{many}", extent="least")
    assert time.monotonic() - started < 2
