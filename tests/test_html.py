"""What is seen of HTML, and what is not."""

import random
import time

import pytest

from model.direction import carry_over_lines
from model.fold import fold_text
from model.html import _extract, read_html


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("one<br>two", "one\ntwo"),
        ("V<b></b>i<span>a</span>gra", "Viagra"),
        ("Vi<!-- x -->agra", "Viagra"),
        ("<table><tr><td>a</td><td>b</td></tr></table>", "a\t\tb"),
        ("&#86;&#105;agra &amp; more", "Viagra & more"),
        ("seen <img src=x alt='buy now'>", "seen buy now"),
        ("a < b and c <5 >", "a < b and c <5 >"),
        ('<p title="a > b">seen</p>', "seen"),
        ("<title>Title</title>seen", "seen"),
        ("<script>if (a<b) '</p>'</script>seen", "seen"),
        ("<title><a x='</title>seen<p y='>", "seen"),
        ("<!-- <p x=' -->seen<p>'", "seen\n\n'"),
        ("seen<p x='unclosed>not seen", "seen"),
        ("seen<!-- unclosed", "seen"),
    ],
)
def test_text_is_what_a_browser_shows(html: str, expected: str) -> None:
    assert read_html(html).text == expected


@pytest.mark.parametrize(
    "html",
    [
        "seen<i style='display:none'>x</i>",
        "seen<i style='color:red; DISPLAY : none !important'>x</i>",
        "seen<i style='display:block;display:none'>x</i>",
        "seen<div style='display:none'>x<p style='display:block'>x</p></div>",
        "seen<i style='opacity:0'>x</i>",
        "seen<textarea style='display:none'>x</textarea>",
        "seen<i style='display:none'>x</i><svg></svg><math> </math>",
        "seen<i style='font-size:0'>x</i>",
        "seen<i style='font-size:0.0px'>x<b style='font-size:2em'>x</b></i>",
        "seen<i style='font-size:1px'>x</i>",
        "seen<i style='font:0/0 a'>x</i>",
        "seen<i style='color:#fff'>x</i>",
        "seen<font color=white>x</font>",
        "seen<font color=#FEFEFE>x</font>",
        "seen<i style='color:rgb(255, 255, 255)'>x</i>",
        "seen<i style='color:transparent'>x</i>",
        "seen<i style='color:rgba(0,0,0,0)'>x</i>",
        "<body bgcolor=black text=white>seen<i style='color:#000'>x</i>",
        "seen<i style='background:#000'>x</i>",
        "seen<div style='height:0;overflow:hidden'>x</div>",
        "seen<div style='max-height:0px;overflow:hidden'>x</div>",
        "<style>.h{display:none}</style>seen<i class=h>x</i>",
        "<style>i{color:red} /* x */ .a, #h { display : none }</style>seen<i id=h>x</i>",
        "<style>.h{display:none} i{display:inline}</style>seen<i class=h>x</i>",
        "<style>td{background:#000}</style><table><td><font color=white>seen</font>x</table>",
    ],
)
def test_hidden_text_is_not_read(html: str) -> None:
    assert read_html(html).text == "seen"


@pytest.mark.parametrize(
    "html",
    [
        "<i style='display:none;display:inline'>seen</i>",
        "<i style='display:nonesense'>seen</i>",
        "<div style='font-size:0'><i style='font-size:14px'>seen</i></div>",
        "<div style='font-size:0'><font size=3>seen</font></div>",
        "<i style='font-size:0;font:14px arial'>seen</i>",
        "<div style='visibility:hidden'><i style='visibility:visible'>seen</i></div>",
        "<div style='background:#000'><i style='color:#fff'>seen</i></div>",
        "<div style='background-color:#fff;background:#000;color:#fff'>seen</div>",
        "<div style='background:url(x)'><font color=white>seen</font></div>",
        "<div background=x.png><font color=white>seen</font></div>",
        "<i style='color:#fff;text-shadow:0 0 9px #000'>seen</i>",
        "<i style='color:#fff;-webkit-text-fill-color:#000'>seen</i>",
        "<div style='background:#00e'><a href=x>seen</a></div>",
        "<mark style='color:#fff'>seen</mark>",
        "<div style='height:0'>seen</div>",
        "<div style='max-height:0;min-height:9px;overflow:hidden'>seen</div>",
        "<div style='height:0;overflow:hidden;padding:50px'>seen</div>",
        "<style>@media print{.h{display:none}}</style><i class=h>seen</i>",
        "<style>.a .h{display:none}</style><i class=h>seen</i>",
        "<style>.h{display:none}.h{display:inline}</style><i class=h>seen</i>",
        "<style>i.h{display:inline}.h{display:none}</style><i class=h>seen</i>",
        "<style>.h{display:inline!important}</style><i class=h style=display:none>seen</i>",
        "<style>@media all{.h{display:inline!important}}</style><i class=h style=display:none>seen",
        "<style>.a .h{background:#000}</style><p class=a><i class=h><font color=#fff>seen</font>",
        # Far to the left of a box that is far to the right; only a browser can tell.
        "<p style='position:relative;left:9999px'><i style='position:absolute;left:-9999px'>seen",
        "<div style='height:0;overflow:hidden'><p style='position:absolute'>seen</div>",
        "<div style='height:0;overflow:hidden'><dialog open>seen</dialog></div>",
        "<div style='height:0;overflow:hidden;block-size:50px'>seen</div>",
        "<div style='height:0;overflow:hidden;overflow-x:visible;overflow-y:visible'>seen</div>",
        "<div style='display:flex'><div style='width:0;overflow:hidden;flex:1'>seen</div></div>",
        "<body style='height:0;overflow:hidden'>seen",
        "<table><td style='height:0;overflow:hidden'>seen</table>",
        "<div style='font-size:0'><i style='font-size:9px;font-size:x em'>seen</i></div>",
        "<div style='font-size:0'><i style='font-size:9px;font-size:'>seen</i></div>",
        "<div style='font-size:1px'><i style='font-size:20em'>seen</i></div>",
        "<div style='font-size:0'><table><tr><td>seen</table></div>",
        "<div style='font-size:0'><button>seen</button></div>",
        "<div style='color:#fff'><mark>seen</mark></div>",
        "<div style='color:#fff'><dialog open>seen</dialog></div>",
        "<div style='color:#fff'><table><td>seen</table></div>",
        "<div style='filter:invert(1)'><i style='color:#fff'>seen</i></div>",
        "<div style='text-shadow:0 0 9px #000'><i style='color:#fff'>seen</i></div>",
        "<b style='-webkit-text-fill-color:#000'><i style='color:#fff;background:#fff'>seen</i>",
        "<p style='background:#000'><i style='background:rgba(9,9,9,0);color:#fff'>seen</i>",
        "<table><col style='background:#000'><td style='color:#fff'>seen</table>",
        "<meta name=color-scheme content=dark><p style='color:#fff'>seen</p>",
        "<html style='color-scheme:dark'><p style='color:#fff'>seen</p>",
        "<span style='background:#000'><div>seen</div></span>",
        "<span style='background:#000'><div style='color:#000'>seen</div></span>",
        "<div style='background:#000;display:contents'>seen</div>",
        "<p color=white>seen</p>",
        "<p bgcolor=black>seen</p>",
        "<font color=fff>seen</font>",
        "<font color=transparent>seen</font>",
        "<p hidden>seen</p>",
        "<p style='visibility:hidden'>seen</p>",
        "<i style='opacity:.05'>seen</i>",
        "<i style='display:none;display:var(--x)'>seen</i>",
        "<i style='display:none;display:ruby-base-container'>seen</i>",
        "<i style='opacity:.%'>seen</i>",
        "<sty<svg></svg>le>seen",
        "hi <!-<svg></svg>- seen",
        "<font color=#0000>seen</font>",
        "<font color=#00000000>seen</font>",
        "<table bgcolor=#ffff><td><font color=white>seen</font></table>",
        "<style media=print>p{display:none}</style><p>seen</p>",
        "<style type=text/plain>p{display:none}</style><p>seen</p>",
        "<style title=a>b{x:y}</style><style title=b>p{display:none}</style><p>seen</p>",
        "<link rel=stylesheet href='data:text/css,p{display:block!important}'><p hidden>seen</p>",
        "<!doctype html><style>.H{display:none}</style><p class=h>seen</p>",
        "<style>.H{display:block!important}</style><p class=h style='display:none'>seen</p>",
        "<!doctype html><p style='display:none'><table><td>seen</table>",
        "<div style='color:#fff'><svg><text y=20>seen</text></svg></div>",
        "<svg hidden><text y=20>seen</text></svg>",
        "<svg><script/></svg><p>seen</p>",
        "<svg><text y=20><![CDATA[seen]]></text></svg>",
        "<i\u00a0style=display:none>seen</i>",
        "<i\vhidden>seen</i>",
        "<style>" + "p{color:red}" * 3_000 + "</style><i style='display:none'>seen</i>",
    ],
)
def test_whatever_may_be_visible_is_read(html: str) -> None:
    assert "seen" in read_html(html).text


@pytest.mark.parametrize(
    "html",
    [
        "<div style='background:#000;height:0'>seen</div>",
        "<div style='background:#000;height:1px;line-height:40px'>seen</div>",
        "<div style='background:#000;width:0'>seen</div>",
        "<div style='background:#000;line-height:0'>seen</div>",
        "<div style='background:#000;font:20px/0 a'>seen</div>",
        "<div style='background:#000;width:20px;text-indent:40px'>seen</div>",
        "<div style='background:#000'><div style='float:left'>seen</div></div>",
        "<div style='background:#000'><table align=left><tr><td>seen</table></div>",
        "<div style='background:#000'><div style='position:relative;top:20px'>seen</div></div>",
        "<div style='background:#000'><div style='position:absolute'>seen</div></div>",
        "<div style='background:#000'><div style='transform:translateY(20px)'>seen</div></div>",
        "<table bgcolor=#000000><caption>seen</caption><tr><td></table>",
        "<p style='background:#000'></p><p style='color:#fff;margin-top:-40px'>seen</p>",
        "<p style='position:absolute;background:#000'></p><p style='color:#fff'>seen</p>",
        "<p style='height:0'><b style='background:#000'></b></p><p style='color:#fff'>seen</p>",
        "<p style='box-shadow:0 20px 0 40px #000'></p><p style='color:#fff'>seen</p>",
        "<p style='color:#fff'>seen</p><p style=margin:-9px><b style='background:#000'></b></p>",
        "<p style='color:#fff'>seen</p><p style=position:fixed><b style='background:#000'></b></p>",
        "<p style='border:40px solid #000;margin:0 0 -40px'></p><p style='color:#fff'>seen</p>",
        "<img src=x style='position:absolute'><p style='color:#fff'>seen</p>",
        "<i style='font-size:1px;font-size-adjust:12'>seen</i>",
        "<style>@font-face{size-adjust:3000%}</style><i style='font-size:1px'>seen</i>",
    ],
)
def test_text_that_may_lie_elsewhere_than_its_background_is_read(html: str) -> None:
    assert read_html(html).text == "seen"


@pytest.mark.parametrize(
    "html",
    [
        "<div style='color:#fff;float:left'>x</div>seen",
        "<div style='color:#fff;height:1px;margin:-20px'>x</div>seen",
        "<div style='max-width:600px;background:#fafafa'><i style='color:#fff'>x</i>seen</div>",
        "<body bgcolor=black text=white><p style='width:9px;color:#000'>x</p>seen",
        "<table style='background:#000;width:9px'><tr><td>x</table>seen",
        "<div style='background:#000;height:9px;overflow:hidden'>x</div>seen",
    ],
)
def test_text_as_pale_as_all_that_may_be_behind_it_is_not_read(html: str) -> None:
    assert read_html(html).text == "seen"


@pytest.mark.parametrize(
    "html",
    [
        "<style>.a:before{content:'more'}</style><p class=a>seen",
        '<style>.a::after { /* } */ content : "mo" "re" }</style><p class=a>seen',
        "<style>.a:before{content:'m\\6f re'}</style><p class=a>seen",
        "<style>.a:before{content:attr(title)}</style><p class=a title=more>seen",
        "<p style=\"display:list-item;list-style:'more' inside\">seen",
        "<style>@counter-style a{system:fixed;symbols:'more'}</style><p>seen",
        "<p>seen</p><title style='display:block'>more</title>",
        '<p style="display:list-item;list&#45;style:&quot;more&quot; inside">seen',
        "<style>.a:before{c\\6fntent:'more'}</style><p class=a>seen",
        "<p>seen</p><script type=a style='Display: block'>more</script>",
        "<style>noframes{display:block}</style><p>seen</p><noframes>more</noframes>",
        "<style>.a{color:red;display:block}</style><p>seen</p><title class=a>more</title>",
        "<style>:root{--a:'more'}.a:before{content:var(--a)}</style><p class=a>seen",
        "<style>:root{--a:var(--b);--b:'more'}.a:before{content:var(--a)}</style><p class=a>seen",
        "<style>:root{--a:'more';--font:'Arial'}p:before{content:var( --a)}</style><p>seen",
        "<p style=\"content:'!\">seen</p><style>.a:before{content:'more'}</style>",
        "<p>seen<select><optgroup label=more></select>",
        "<p>seen<select><option label=more></select>",
    ],
)
def test_text_that_no_element_holds_is_read_behind_all_other(html: str) -> None:
    assert read_html(html).text == "seen\n\nmore"


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<input placeholder=seen>", "[ seen ]"),
        ("<textarea placeholder=seen></textarea>", "[ seen ]"),
        ("<input type=reset value='seen now'>", "[ seen now ]"),
        ("<input type=image alt=seen>", "seen"),
        ("<div style='display:inline'>se</div><div style='display:inline'>en</div>", "seen"),
        ("se<h1 style=display:inline></h1>e<form style=display:inline></form>n", "seen"),
        ("<style>p{display:contents}</style><p>se<b>e</b></p><p>n</p>", "seen"),
        ("<div style='display:inline-block'>V</div><p style='display:inline-flex'>i</p>a", "V i a"),
        (
            "<div style='display:inline-block'>Shop now</div><a>Unsubscribe</a>",
            "Shop now Unsubscribe",
        ),
        ("<p>seen</p><NOSCRIPT class=a><p>more</p></NOSCRIPT>", "seen\n\nmore"),
        ("<span style='display:block'>seen</span><a style='display:block'>now</a>", "seen\n\nnow"),
        (
            "seen<style>i:before{content:'\\2192'}</style><style>a{align-content:center}</style>",
            "seen",
        ),
        ("<title>not shown</title>seen<style>p{display:block}</style>", "seen"),
    ],
)
def test_text_is_read_as_it_is_drawn(html: str, expected: str) -> None:
    assert read_html(html).text == expected


def test_any_nesting_of_what_hides_moves_and_turns_text_is_read() -> None:
    """What the library does with a tree that it is told to change ends in no panic."""
    rng = random.Random(0)
    for _ in range(3000):
        _extract("".join(_random_markup(rng) for _ in range(rng.randrange(1, 40))), "shown")


@pytest.mark.parametrize(
    "costly",
    [
        "<i style=color:red></i>" * 5_001,
        "<i></i>" * 5_001 + "<style>i{color:red}</style>",
        f"<style>{'b{color:red}' * 2_001}</style>",
        f"<style>/*{'x' * 65_536}*/</style>",
    ],
    ids=["styled", "selected", "rules", "characters"],
)
def test_beyond_the_bounds_all_text_counts_as_visible(costly: str) -> None:
    assert read_html(f"<p style='display:none'>seen</p>{costly}").text == "seen"


def test_what_the_library_fails_at_is_read_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """As Rust's libraries raise it."""

    def fail(*_: object, **__: object) -> str:
        raise PanicException

    monkeypatch.setattr("model.html.extract_plain_text", fail)
    assert (
        read_html("<p>seen &amp;<b style='color:red'>read</b><script>x</script>").text
        == "seen &read"
    )


def _random_markup(rng: random.Random) -> str:
    tag = rng.choice("html body div p span a b table tr td caption title script bdo select".split())
    style = ";".join(rng.choice(_STYLES) for _ in range(2))
    starts = [f"<{tag}>", f'<{tag} style="{style}">', f"<{tag} hidden dir=rtl bgcolor=black>"]
    return rng.choice([*starts, f"</{tag}>", "seen ", "<style>p{display:inline}</style>"])


_STYLES = (
    "display:none|display:inline|display:block|color:#fff|background:#000|float:left|height:0|"
    "position:absolute|overflow:hidden|font-size:0|visibility:hidden|content:'a'|opacity:0|"
    "unicode-bidi:bidi-override;direction:rtl"
).split("|")


@pytest.mark.parametrize("start", ["<bdo dir=rtl>", "<BDO class=a dir=' RT&#76; '>"])
def test_text_shown_from_right_to_left_is_read_so(start: str) -> None:
    text = read_html(f"<p>get {start}hsac eerf</bdo> now, <bdo dir=ltr>see</bdo>").text
    assert fold_text(text, typing=False) == "get free cash now, see"


@pytest.mark.parametrize(
    "html",
    [
        "<bdo dir=rtl><bdo dir=ltr>win now today</bdo></bdo>",
        "<bdo dir=rtl><span dir=ltr>win now today</span></bdo>",
        "<p><span style='unicode-bidi:bidi-override;direction:rtl'>yadot won niw</span></p>",
        "<style>.a{unicode-bidi:isolate-override}</style><i class=a dir=RTL>yadot won niw</i>",
        "<bdo dir=rtl>won niw<br>yadot</bdo>",
    ],
)
def test_directions_within_one_another_are_read_as_shown(html: str) -> None:
    assert fold_text(read_html(html).text, typing=False).split() == ["win", "now", "today"]


def test_a_direction_goes_on_in_further_lines_until_it_is_closed() -> None:
    lines = "\u2067one\ntwo\u2069\nthree\u202e\nfour\u202c\nfive"
    expected = "\u2067one\n\u2067two\u2069\nthree\u202e\n\u202efour\u202c\nfive"
    assert carry_over_lines(lines) == expected


def test_directions_over_many_lines_are_read_in_time() -> None:
    for text in ("\u2066" * 50_000 + "\u202e" + "\u2069" * 50_000, "\u202ea\n" * 20_000):
        begin = time.monotonic()
        fold_text(carry_over_lines(text))
        assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<!--[if mso]><p>Win now</p><![endif]--><!--[if !mso]><!--><p>a</p><!--<![endif]-->", 2),
        ("<p>a</p><!--[IF (gte mso 9)|(IE)]>Win <b>now</b><![endif]-->", 2),
        ("<p>a</p><!--[if vml]><v:rect><xml>9</xml><p>Win now</v:rect><![endif]-->", 2),
        ("<p>a</p><!--[if mso]><table><td>A<![endif]--><!--[if mso]>a</table><![endif]-->", 2),
        ("<p>a</p><!--[if !mso]>Win<![endif]--><!--[if lt IE 9]>Win<![endif]--><!-- Win -->", 1),
        ("<p>a</p><!--[if !mso 9]>Win<![endif]-->", 2),
        ("<p>a b</p><!--[if mso]><v:roundrect>b</v:roundrect><style>x</style><![endif]-->", 1),
    ],
)
def test_what_outlook_alone_shows_is_read_where_it_says_more(html: str, text: int) -> None:
    assert len(read_html(html).text.split("\n\n")) == text


def test_only_ascii_letters_name_an_element() -> None:
    assert read_html("<\u017fcript>seen</script>").text == "<\u017fcript>seen"


def test_plaintext_ends_all_markup() -> None:
    assert read_html("<plaintext><!-- seen <i hidden>").text == "<!-- seen <i hidden>"
