"""Which of the elements that are not shown a sheet shows, and which strings of it are text."""

import time

import pytest

from model.html import read_html


@pytest.mark.parametrize(
    "rule",
    [
        '*[class="show"]{display:block !important}',
        "td[class*=full]{display:block}",
        ".title,.style{display:block}",
        ".mobile-only,.mobile-only *{display:block !important}",
        "td > *{display:block}",
        "tr:nth-child(2n) > *{display:table-cell}",
        r".sm\:block, .dark\:white *{display:block}",
        ".a:not(.b) *{display:block}",
        "@media (max-width:480px){*[class~=show]{display:block} .x *{display:inline}}",
        "@import url(x.css); [lang] .x *{display:block}",
        "@font-face{font-family:title;font-display:swap}",
        ".x{color:red;@media all{display:block}i{color:red}display:block}",
        ".x[title='} *{display:block}']{color:red}",
        ".x:is(.y:not(.a):not(.b)){display:block}",
    ],
)
def test_a_sheet_that_shows_other_elements_is_not_read(rule: str) -> None:
    head = f"<head><title>Title</title><style>body{{margin:0}} {rule}</style></head>"
    body = "<body style='display:block'><p class='show title x mobile-only'>seen</p></body>"
    assert read_html(f"<html>{head}{body}").text == "seen"


@pytest.mark.parametrize(
    "sheet",
    [
        "<link rel=stylesheet href='data:text/css;base64,cDphZnRlcntjb250ZW50OiJzaG93biJ9'>",
        "<link rel=stylesheet href='data:text/css,p:after{content:%22shown%22}'>",
        "<link rel=stylesheet href='data:text/css,p:after{content:&quot;shown&quot;}'>",
        "<style>@import url(data:text/css;base64,cDphZnRlcntjb250ZW50OiJzaG93biJ9)</style>",
        "<style>@import 'data:,p%3Aafter%7Bcontent:%22shown%22}';</style>",
        "<style>@import 'data:,@import%20%22data:,p:after{content:%2522shown%2522}%22';</style>",
        "<style>@import url(d\\61ta:text/css\\;base64,cDphZnRlcntjb250ZW50OiJzaG93biJ9)</style>",
    ],
)
def test_strings_of_a_sheet_in_an_address_are_read(sheet: str) -> None:
    assert read_html(f"{sheet}<p>seen").text.split() == ["seen", "shown"]


def test_what_addresses_hold_is_looked_for_in_bounded_time() -> None:
    start = time.process_time()
    for css in (
        "data:" * 40_000,
        "data:," * 40_000,
        "data:,%" * 40_000,
        "data:;base64,QQ" * 20_000,
    ):
        read_html(f"<style>{css}</style><p>seen")
    picture = "url(data:image/png;base64,cDphZnRlcntjb250ZW50OiJubyJ9)"
    assert read_html(f"<style>p{{background:{picture}}}</style><p>seen").text == "seen"
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "rule",
    [
        "*{display:block}",
        "*,:root{display:block}",
        "TITLE{display:block}",
        "html *{display:block}",
        "head > title{display:block}",
        ".A{display:block}",
        "#b{display:block}",
        "[class]{display:block}",
        r".q\:r{display:block}",
        "style + *{display:block}",
        ":is(title,b){display:block}",
        ".a:not(.b){display:block}",
        ":not(.c){display:block}",
        ":not(.c) :not(p){display:block}",
        "<!-- *{display:block} -->",
        '@import "x"; *{display:block}',
        "*|title{display:block}",
        ":first-child > *{display:block}",
        "i{color:red;& title{display:block}}",
        'title[lang="a;b"]{display:block}',
        'title[lang="{"]{display:block}',
        ":is(:not(p)){display:block}",
        ":not(:is(p)){display:block}",
        ":not(:is(:not(p),b)){display:block}",
        "title{display:block;.x{color:red}}",
        "title{.x{color:red}display:block}",
        "title{@media all{display:block}}",
        "p:before{content:'/*'}title{display:block}",
        "p{background:url(//x/*)}title{display:block}",
    ],
)
def test_what_a_sheet_shows_of_the_head_is_read(rule: str) -> None:
    title = "<title style='color:red' id=b class='a q:r'>more</title>"
    text = read_html(f"<meta style='color:red'><style>{rule}</style>{title}<p>seen").text
    assert text.split()[-1] == "more"


@pytest.mark.parametrize(
    "html",
    [
        "<style>body *{display:block}</style>seen<title>more</title>",
        "<style>p ~ *{display:block}</style></p><title>more</title>",
        "<style>.e *{display:block}</style><title>more</title><p>seen<html class=e>",
        "<style>.a\U0001f600{display:block}</style><title class='a\U0001f600'>more</title>",
        "<style>.a\xa0b{display:block}</style><title class='a\xa0b'>more</title>",
        r"<style>.\31 a{display:block}</style><title class=1a>more</title>",
        "<p style='color:red/*'>seen</p><style>p:before{content:'more'}</style>",
        r"""<style>p:before{content:url(a\") "more"}</style>""",
    ],
)
def test_what_a_sheet_shows_behind_what_is_hard_to_read_is_read(html: str) -> None:
    assert read_html(html).text.split()[-1] == "more"


def test_what_a_sheet_shows_of_the_body_is_read() -> None:
    html = "<style>.a *{display:block}</style><div class=a><p>seen</p><title>more</title></div>"
    assert read_html(html).text == "seen\n\nmore"


@pytest.mark.parametrize("picture", ["url('a.png')", 'url( "a.png" )', "image-set('a' 1x, 'b' 2x)"])
def test_the_address_of_a_picture_is_no_text(picture: str) -> None:
    dark = f"@media (prefers-color-scheme:dark){{img{{content:{picture}}}}}"
    assert read_html(f"<style>{dark}</style><p>seen").text == "seen"
    both = f"<style>p:before{{content:{picture} 'more'}}</style><p>seen"
    assert read_html(both).text == "seen\n\nmore"


@pytest.mark.parametrize("unit", ["[a", ":not(", ".a ", "url(", "a,", ";", "*>", "{", '[a"', "\\"])
def test_hostile_selectors_are_read_in_time(unit: str) -> None:
    begin = time.monotonic()
    read_html(f"<style>{unit * 100_000}{{display:block;content:{unit * 100_000}}}</style>")
    assert time.monotonic() - begin < 5
