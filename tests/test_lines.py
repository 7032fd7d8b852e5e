"""Lines that a format has cut, and what is read of an invitation."""

import base64

import pytest

from model.mail import message_to_text
from tests.test_mail import HTML_WORDS, WORDS, html, mail, multipart, plain, read


def test_invitation_is_read_where_it_says_more() -> None:
    """Gmail, Outlook and Apple Mail show it beside the text, or instead."""
    event = (
        "Content-Type: text/calendar; method=REQUEST\r\n\r\nBEGIN:VCALENDAR\r\nUID:1\r\n"
        'SUMMARY:Win\\, now\r\nDESCRIPTION;ALTREP="cid:a":{}\r\nLOCATION:\r\n'
    )
    more = event.format("Click\r\n  here")
    assert read(multipart("alternative", plain("text"), more)) == "text\n\nWin, now\nClick here"
    assert read(multipart("alternative", more, plain("text"))) == "text\n\nWin, now\nClick here"
    assert read(multipart("mixed", plain("text"), more)) == "text\n\nWin, now\nClick here"
    assert read(multipart("alternative", plain("Win, now or never"), event.format("never"))) == (
        "Win, now or never"
    )
    assert read(multipart("mixed", more)) == "Win, now\nClick here"
    nothing = "Content-Type: text/calendar\r\n\r\nUID:1"
    assert read(multipart("mixed", nothing)) == ""


@pytest.mark.parametrize("kind", ["alternative", "mixed"])
def test_of_an_invitation_that_repeats_the_mail_only_the_rest_is_read(kind: str) -> None:
    """Exchange puts all of the text in once more, and the subject."""
    event = (
        "Content-Type: text/calendar\r\n\r\nDESCRIPTION:one two three four\\nsix five\\nRoom 1\r\n"
        "SUMMARY:Lunch\r\nLOCATION:Room 1\r\n"
    )
    raw = b"Subject: Lunch\r\n" + multipart(kind, html(HTML_WORDS), event)
    assert message_to_text(raw).text == f"Lunch\n\n{WORDS}\n\nRoom 1"


def test_the_html_of_an_invitation_is_read_as_such() -> None:
    event = (
        "Content-Type: text/calendar\r\n\r\nDESCRIPTION:At noon\r\n"
        "X-ALT-DESC;FMTTYPE=text/html:<HTML><P>At <B>no</B>on\\, or\\n later</P></HTML>\r\n"
    )
    assert (
        read(multipart("alternative", plain("text"), event)) == "text\n\nAt noon\nAt noon, or later"
    )


def test_an_attached_invitation_is_read_and_an_attached_calendar_is_not() -> None:
    """Gmail and Outlook draw the first as a card above the message, the second as a file."""
    event = (
        "Content-Type: text/calendar{}\r\nContent-Disposition: attachment; filename=a.ics\r\n\r\n"
        "SUMMARY:You have won\r\n"
    )
    invited = multipart("mixed", plain("text"), event.format("; method=REQUEST"))
    assert read(invited) == "text\n\nYou have won"
    assert read(multipart("mixed", plain("text"), event.format(""))) == "text"


def test_alarms_of_an_event_are_not_read_and_markup_in_it_is() -> None:
    """Outlook and Google remind of each event; the latter describes it in HTML."""
    event = (
        "Content-Type: text/calendar\r\n\r\nSUMMARY:Lunch\r\n"
        "BEGIN:VALARM\r\nDESCRIPTION:REMINDER\r\nEND:VALARM\r\n"
        "DESCRIPTION:<p>At <a href=x>noon</a></p>\r\nLOCATION:a < b\r\n"
    )
    assert read(multipart("mixed", plain("text"), event)) == "text\n\nLunch\na < b\nAt noon"


@pytest.mark.parametrize("kind", ["calendar", "vcard", "directory"])
def test_folded_lines_are_joined_and_escapes_taken_away(kind: str) -> None:
    """RFC 5545, 3.1 and 3.3.11; RFC 6350, 3.2 and 3.4. A fold may cut a character in two."""
    text = (
        b"SUMMARY:You have won\\, click\\; the prize rig\r\n ht now \xe2\r\n\t\x82\xac5\\nC:\\\\new"
    )
    read_as = "SUMMARY:You have won, click; the prize right now €5\nC:\\new"
    read_as = read_as.removeprefix("SUMMARY:" if kind == "calendar" else "")
    assert read(mail(text, f"Content-Type: text/{kind}; charset=utf-8")) == read_as
    coded = base64.encodebytes(text)
    fields = f"Content-Type: text/{kind}", "Content-Transfer-Encoding: base64"
    assert read(mail(coded, *fields)) == read_as
    assert read(mail(b"a\\, b\r\n c")) == "a\\, b\nc"
