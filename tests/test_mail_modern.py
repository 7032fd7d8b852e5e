"""Mail as today's programs write it is read as its reader sees it."""

import pytest

from model.mail import message_to_text

_PREHEADER = (
    "<div style='display:none;font-size:1px;color:#ffffff;line-height:1px;max-height:0px;"
    "max-width:0px;opacity:0;overflow:hidden;mso-hide:all'>Unseen preview</div>"
)
_MJML = (
    "<!doctype html><html><head><title>Unseen</title><!--[if mso]><noscript><xml>"
    "<o:OfficeDocumentSettings><o:PixelsPerInch>96</o:PixelsPerInch></o:OfficeDocumentSettings>"
    "</xml></noscript><![endif]--><style>@media only screen and (max-width:480px){"
    "table.mj-full{width:100% !important} td[class*='stack'],.show *{display:block !important}}"
    f"</style></head><body style='background-color:#f4f4f4'>{_PREHEADER}<table><tr>"
    "<td style='font-size:0px;text-align:center'><!--[if mso | IE]><table><tr><td><![endif]-->"
    "<div class=stack style='font-size:0px;display:inline-block;width:100%'>"
    "<div style='font-size:13px;color:#000000'>Visitors: 12</div></div>"
    "<!--[if mso | IE]></td><td><![endif]--><div style='font-size:0px;display:inline-block'>"
    "<div style='font-size:13px'>Orders: 33</div></div><!--[if mso | IE]></td></tr></table>"
    "<![endif]--></td></tr></table><p>A week of numbers from all of your shops, as ordered.</p>"
)
_BUTTONS = (
    "<p>Anna asks whether you can come to the meeting on Friday at noon.</p>"
    "<!--[if mso]><v:roundrect fillcolor='#d62828'><center style='color:#fff'>Yes</center>"
    "</v:roundrect><![endif]--><a style='display:inline-block;background:#d62828;color:#fff'>Yes"
    "</a> <a style='display:inline-block;color:#d62828'>No</a><br><a href=a><img alt=Facebook></a>"
    "<a href=b><img alt=LinkedIn></a>Follow us<br><del style='display:block'>$30</del>$24"
)
_WORD = (
    "<html xmlns:o='urn:schemas-microsoft-com:office:office'><head><!--[if !mso]><style>v\\:* "
    "{behavior:url(#default#VML);}</style><![endif]--><style><!-- @font-face {font-family:Calibri;}"
    " p.MsoNormal {margin:0cm;} @list l0:level1 {mso-level-text:\\F0B7;} --></style>"
    "<!--[if gte mso 9]><xml><o:idmap v:ext='edit' data='1'/></xml><![endif]--></head><body>"
    "<p class=MsoNormal>Here is what we talk about on Thursday<span lang=EN>&#8217;s call</span>:"
    "<o:p></o:p></p><p class=MsoListParagraph><![if !supportLists]><span style='mso-list:Ignore'>"
    "&middot;<span style='font:7.0pt \"Times New Roman\"'>&nbsp;&nbsp; </span></span><![endif]>"
    "Budget<o:p></o:p></p></body></html>"
)
_TICKET = (
    "<p>You can reply to this mail, or <a href=x>view it on the web</a> if you like.</p>"
    "<span style='color:transparent;font-size:0;display:none;visibility:hidden'>Message 7</span>"
    "<script type='application/ld+json'>[{'@type':'ViewAction'}]</script>"
)
_PREVIEW_FILLER = (
    f"<div>See what is new{' &#847;&zwnj;&nbsp;&#8199;&#65279;&#173;' * 60} today</div>"
    "<p>Our summer hours start on Monday and end in September this year.</p>"
)


@pytest.mark.parametrize(
    ("html", "lines"),
    [
        (
            _MJML,
            ["Visitors: 12", "Orders: 33", "A week of numbers from all of your shops, as ordered."],
        ),
        (
            _BUTTONS,
            ["Anna asks whether you can come to the meeting on Friday at noon.", "Yes No"]
            + ["Facebook LinkedIn Follow us", "$30", "$24"],
        ),
        (_WORD, ["Here is what we talk about on Thursday’s call:", "· Budget"]),
        (_TICKET, ["You can reply to this mail, or view it on the web if you like."]),
        (
            _PREVIEW_FILLER,
            [
                "See what is new today",
                "Our summer hours start on Monday and end in September this year.",
            ],
        ),
    ],
    ids=["columns", "buttons", "word", "ticket", "filler"],
)
def test_a_mail_of_today_is_read_as_it_is_shown(html: str, lines: list[str]) -> None:
    raw = f"Subject: News\nContent-Type: text/html; charset=utf-8\n\n{html}".encode()
    shown = [line.strip() for line in message_to_text(raw).text.split("\n")]
    assert [line for line in shown if line] == ["News", *lines]


def test_a_long_newsletter_hides_what_it_hides_however_many_rules_it_does_not_use() -> None:
    rules = "".join(f".pad-{n}{{padding:{n}px !important}}" for n in range(600))
    items = "<table><tr><td class=Name>Linen shirt</td></tr></table>" * 2_000
    sheet = f"<style>.name{{color:#222}} .Name{{width:9px}} {rules}</style>"
    html = f"<!doctype html>{sheet}{_PREHEADER}{items}"
    raw = f"Subject: News\nContent-Type: text/html\n\n{html}".encode()
    assert set(message_to_text(raw).text.split()) == {"News", "Linen", "shirt"}


def test_a_picture_of_a_letter_is_part_of_its_word() -> None:
    raw = b"Content-Type: text/html\n\nV<img alt=i>agra <img alt='&#102;'><img alt=or>sale"
    assert message_to_text(raw).text == "Viagra forsale"
