"""What CSS hides and what it only seems to hide. Chromium draws each ``seen`` here, and no x."""

import time

import pytest

from model.css import style_rules
from model.html import read_html

HIDDEN_IN_A_NEWSLETTER = """<!DOCTYPE html><html><head><meta charset="utf-8">
<link href="https://fonts.example/css?family=Lato" rel="stylesheet" type="text/css">
<style type="text/css" media="screen"><!--
@charset "utf-8"; @import url("https://fonts.example/css?family=Lato");
#outlook a{padding:0} body,td{-webkit-text-size-adjust:100%} .ExternalClass *{line-height:100%}
v\\:* {behavior:url(#default#VML)}
@font-face{font-family:"Open Sans";src:local('x'),url(https://x.example/y.woff) format('woff')}
a[x-apple-data-detectors]{color:inherit!important;text-decoration:none!important}
u + #body a{color:inherit} div[style*="margin: 16px 0;"]{margin:0!important} td:hover{color:red}
.preheader{display:none !important;visibility:hidden;opacity:0;color:transparent;height:0;width:0}
@media only screen and (max-width:600px){
  .hide{display:none!important} table[class=w]{width:100%!important} .full{display:block!important}
} --></style></head>
<body id=body bgcolor="#ffffff"><span class="preheader">x</span>
<div style="display:none;font-size:1px;opacity:0;font-family:'Open Sans',sans-serif">x</div>
<table><td style="font:14px Arial"><p>seen</p><span style="font-size:0">x</span></td></table>
<div style="color:#ffffff;font-size:1px">x</div></body></html>"""


@pytest.mark.parametrize(
    "html",
    [
        HIDDEN_IN_A_NEWSLETTER,
        "<style>@import '//x.example/f.css';.h{display:none}</style>seen<i class=h>x</i>",
        "<style>.h{display:none</style>seen<i class=h>x</i>",
        "<style>p.g > .g, .h{display:none}</style>seen<i class=h>x</i>",
        "<style>.h{color:#fff!important}</style>seen<i class=h style='color:#000'>x</i>",
        "<style>.h{display:none!important}.h{display:block}</style>seen<i class=h>x</i>",
        "<style>.h:hover{display:none}.g{display:none}</style>seen<i class=g>x</i>",
        "<style>p .h{opacity:0}</style>seen<b style='display:none'><i class=h>x</b>",
        "seen<i style='display:none!important;display:block'>x</i>",
        "seen<i style='opacity:.01'>x</i>",
        "seen<i style='display:none;display:0'>x</i>",
        "seen<i style='font-size:0;font-size:x;opacity:y'>x</i>",
        "seen<i style='color:azure'>x</i>",
        "seen<i style='color:rgb(300,300,300)'>x</i>",
        "seen<i style='color:rgba(0,0,0,.01)'>x</i>",
        "seen<i style='d\\69splay:n\\6f ne'>x</i>",
        "seen<i style='x:\";\";display:none'>x</i>",
        "seen<i style='font-size:0%'>x<big>x</big></i>",
        "seen<i style='font:0/1.2 a, \"b c\"'>x</i>",
        "seen<i style='opacity:.0%'>x</i>",
        "seen<div style='height:0;overflow:hidden'><p style='position:relative'>x</div>",
        "seen<div style='height:0;overflow:hidden'><p style='position:sticky'>x</div>",
        "seen<i style='color:#fff;background-image:none'>x</i>",
        "seen<i style='color:#fff;text-decoration:none'>x</i>",
        "seen<i style='font-size:1px;-webkit-text-size-adjust:100%'>x</i>",
        "seen<p style='background:#000;color:#000;line-height:1.5'>x</p>",
        "seen<div style='background:#000;color:#000;width:100%'>x</div>",
        "<p style='background:#eee;width:99px'>seen</p><p style='color:#fff'>x</p>",
        "seen<font color=ffffff>x</font>",
        "seen<i style='color:#ffff'>x</i>",
        "seen<i style='color:#1230'>x</i>",
        "seen<i style='color:#12345600'>x</i>",
        "seen<i style='color:rgba(255, 255, 255, 1.0)'>x</i>",
        "seen<div style='max-height:0;overflow:hidden;padding:0;min-height:0px'>x</div>",
        "seen<div style='max-height:2px;overflow:hidden'>x</div>",
        "seen<div style='opacity:0;display:list-item'>x</div>",
        "seen<i style='font-size:2px'>x</i>",
        "seen<i style='color:hsl(0, 0%, 100%)'>x</i>",
        "seen<i style='color:rgb(100%, 100%, 100%)'>x</i>",
        "seen<i style='color:lightyellow'>x</i>",
        # Beside what changes nothing of it.
        "<style>@import 'a.css';</style><p style='display:none'>x</p>seen",
        "<style>@import url(a.css) screen;</style><p style='display:none'>x</p>seen",
        "<link rel=stylesheet href=style.css><p style='display:none'>x</p>seen",
        "<style>p:hover{display:block}</style><p style='display:none'>x</p>seen",
        "<style>.a p{display:block}</style><p style='display:none'>x</p>seen",
        "<style>@media print{p{display:block!important}}</style><p style='display:none'>x</p>seen",
        "<style>p{animation:none}</style><p style='display:none'>x</p>seen",
        "<svg><defs><linearGradient/></defs></svg><p style='display:none'>x</p>seen",
        "<svg><title>x</title></svg><p style='display:none'>x</p>seen",
        "<ul>" * 13 + "</ul>" * 13 + "<p style='display:none'>x</p>seen",
    ],
)
def test_what_is_hidden_beyond_doubt_is_not_read(html: str) -> None:
    assert read_html(html).text == "seen"


@pytest.mark.parametrize(
    "head",
    [
        "<link rel=stylesheet href='data:text/css,p{display:block!important}'>",
        "<link rel=stylesheet href='da\tta:text/css,p{display:block!important}'>",
        "<link rel=stylesheet href=cid:a>",
        "<style>@import 'data:text/css,p{display:block!important}';</style>",
        "<style>@import 'd\\61 ta:text/css,p{display:block!important}';</style>",
        "<style>@import 'da\\a ta:text/css,p{display:block!important}';</style>",
        "<style>p:hover{display:block!important}</style>",
        "<style>@media screen{p{display:block!important}}</style>",
        "<style>@media print,screen{p{display:block!important}}</style>",
    ],
)
def test_what_another_rule_may_show_is_read(head: str) -> None:
    assert "seen" in read_html(f"{head}<p style='display:none'>seen</p>").text


@pytest.mark.parametrize(
    "html",
    [
        "<body><style>p{display:none}</style><p>seen</p>",
        "<p>seen</p><style>p{display:none}</style>",
        "<p style='display:none;color:rgb(1 2 3)'>seen</p>",
        "<p style='display:none!IMPORTANT'>seen</p>",
        "<i style='color:rgb(255 255 250)'>seen</i>",
    ],
)
def test_what_gmail_does_not_heed_hides_nothing(html: str) -> None:
    """Of a sheet outside of the head, and of attributes that it cannot read, it keeps nothing."""
    assert read_html(html).text == "seen"


@pytest.mark.parametrize("tag", ["html", "body"])
@pytest.mark.parametrize("style", ["display:none", "opacity:0", "font-size:0", "color:#fff"])
def test_what_would_hide_a_whole_document_hides_nothing_of_it(tag: str, style: str) -> None:
    """Gmail, Outlook.com and Yahoo have other elements in place of these."""
    assert read_html(f"<{tag} style='{style}'><p>seen").text == "seen"
    assert read_html(f"<head><style>{tag}{{{style}}}</style></head><p>seen").text == "seen"


def test_items_of_a_list_in_a_line_are_read_in_one() -> None:
    items = "".join(f"<li style='display:inline'>{letter}</li>" for letter in "claim")
    assert read_html(f"<ul>{items}</ul>").text == "claim"
    assert read_html("<ul><li style='display:inline'>a</li> <li>b</li></ul>").text.split() == [
        "a",
        "b",
    ]


@pytest.mark.parametrize("colors", ["red;background:#7f7f7f", "#ff0;background:#fff", "#00f"])
def test_colors_that_differ_in_more_than_how_light_they_are_are_seen(colors: str) -> None:
    assert read_html(f"<p style='color:{colors}'>seen</p>").text == "seen"


def test_deep_lists_are_not_mostly_blanks_and_hide_what_they_hide() -> None:
    text = read_html("<ul><li>x" * 400 + "</ul>" * 400 + "<p style='display:none'>y</p>z").text
    assert (text.count("x"), "y" in text, text[-1]) == (400, False, "z")
    assert len(text) < 20_000


@pytest.mark.parametrize(
    "style",
    [
        # Which declaration holds.
        "display:block !important;display:none",
        "display:block! important;display:none",
        "color:#000!important;color:#fff",
        "font-size:9px!important;font-size:0",
        "display:none;all:unset",
        # Where one declaration ends.
        "dis/**/play:none",
        'x:";display:none;"',
        'x:"\\";display:none;"',
        'x:"\\39\n;display:none;"',
        "background:url(;display:none;)",
        "background:u\\72l(';display:none;')",
        "x:(;display:none;)",
        "x:[;display:none;]",
        "x:{;display:none;}",
        "<!--display:none",
        # Values that are none.
        "display:\u00a0none",
        "color:white\u00a0",
        "opacity:0px",
        "opacity:0deg",
        "opacity:0.",
        "font-size:0foo",
        "font-size:0deg",
        "font:0 x/y",
        "font:0 inherit",
        "font:0 ,a",
        "color:rgb(255 255,255)",
        "color:rgba(x,0)",
        "color:rgba(0,0,0)",
        "background:#000;background-color:none;color:#fff",
        # Values that hide nothing.
        "background:rgba(0,0,0,0)",
        "height:0;overflow:hidden",
        "display:contents;opacity:0",
        "opacity:0;-webkit-opacity:1",
        "-moz-opacity:0",
        "background-color:#000;background-image:none;color:#fff",
        "color:#fff;box-shadow:inset 0 0 0 99px #000",
        "color:transparent;background:linear-gradient(#000,#000);-webkit-background-clip:text",
        # Nobody can tell.
        "font-size:1px;zoom:14",
        "font-size:1px;-webkit-text-size-adjust:3000%",
        "opacity:0;animation:appear 1s forwards",
        "display:none;x:" + 5_000 * "y",
        "opacity:" + 65 * "0",  # so long a value is not looked at, at each of a million elements
    ],
)
def test_what_a_style_only_seems_to_hide_is_read(style: str) -> None:
    quoted = style.replace('"', "&quot;")
    assert read_html(f'<span style="{quoted}">seen</span>').text == "seen"


@pytest.mark.parametrize(
    "css",
    [
        # What seems to hide does not hold.
        '.g{x:"}p{display:none}"}',
        ".g{x:(} p{display:none}",
        "a{x:y};p{display:none}",
        "} p{display:none}",
        "b <!-- p{display:none}",
        "p{<!--display:none}",
        "p,:foo(x){display:none}",
        "p,!!{display:none}",
        "p,{display:none}",
        "p > > b,p{display:none}",
        "@namespace url(x);p{display:none}",
        ".H{display:none}",
        "#I{display:none}",
        # What shows does.
        ".h{display:none}.h[id]{display:block}",
        ".h{display:none}:is(.h){display:block}",
        ".h{display:none}:not(b).h{display:block}",
        ".h{display:none}.\\68{display:block}",
        ".h{display:none}.\\000068 {display:block}",
        ".h{display:none}.h:hover,.h{display:block}",
        "#i{display:none}.h{display:block! important}",
        ".h{display:none}.h{display:block;b{}}",
        ".h{display:none}.h{@media all{display:block}}",
        ".h{display:none}body{& .h{display:block}}",
        ".h{display:none}.h{display:block",
        ".h{display:none}.h{display:block;b{",
        "#i{display:block}.h{display:none}",
        ".h{display:none}/*</style><style>.h{display:block}",
        "p{display:none}@media all{.h{display:block;font-size:0}.h b{font-size:9px}}",
        "@import 'data:text/css,.h{display:block!important}';p{display:none}",
        "@import url(data:text/css,.h{display:block!important});p{display:none}",
    ],
)
def test_what_a_sheet_only_seems_to_hide_is_read(css: str) -> None:
    assert read_html(f"<style>{css}</style><p class=h id=i><b>seen</b></p>").text == "seen"


@pytest.mark.parametrize("unit", ['"', "\\", "/*", "url(", "(", "{", "@a{", "a{", "a,", ". ", "! "])
@pytest.mark.parametrize("start", ["", "a{font:0 ", "a{color:", "a,b:is("])
def test_reading_a_sheet_takes_linear_time(start: str, unit: str) -> None:
    css = (start + unit * 200_000)[:200_000]
    begin = time.process_time()
    style_rules(css)
    assert time.process_time() - begin < 4.0


def test_blocks_shown_in_lines_are_moved_once_each() -> None:
    blocks = 300
    rules = "".join(f".a{n}{{display:inline}}" for n in reversed(range(blocks)))
    opening = "".join(f"<div class=a{n}>" for n in range(blocks))
    markup = f"<style>{rules}</style>{opening}{'x<b>y</b>' * 3000}{'</div>' * blocks}"
    begin = time.process_time()
    assert read_html(markup).text == "xy" * 3000
    assert time.process_time() - begin < 2.0


def test_names_of_an_element_are_read_once() -> None:
    names = " ".join([*(f"a{n}" for n in range(490)), *(f"{n:x}" for n in range(5_000))])
    rules = "".join(f".a{n}{{color:red}}" for n in range(490))
    # Many rules that select one element with many names.
    begin = time.process_time()
    for _ in range(12):
        assert read_html(f"<style>{rules}</style><p class='{names}'>seen</p>").text == "seen"
    assert time.process_time() - begin < 2.0


@pytest.mark.parametrize("font", ["1px arial", "bold 1px/1px arial, serif", "italic 400 1pt x"])
def test_tiny_letters_are_told_in_the_shorthand_too(font: str) -> None:
    assert read_html(f"<p style='font:{font}'>hidden</p><p style='font:12px x'>seen").text == "seen"
