"""Parts that mail programs show, though a standard or a label says otherwise."""

import base64

import pytest

from model.mail import message_to_text

_MINUTES = b"Hi Tom, thanks for sending the minutes of the meeting on Friday."
_PRIZE = b"<p>You have won a prize. Click here to claim it now, dear friend.</p>"
_SHOWN = "You have won a prize. Click here to claim it now, dear friend."
_HEAD = b"Subject: s\nContent-Type: "


def body_of(raw: bytes) -> str:
    return message_to_text(_HEAD + raw).text.removeprefix("s").strip()


def test_an_alternative_that_is_said_to_be_attached_is_read_beside_the_other() -> None:
    raw = (
        b"multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\n%s\n--b\n"
        b"Content-Type: text/html\nContent-Disposition: attachment\n\n%s\n--b--\n"
    )
    mail = message_to_text(_HEAD + raw % (_MINUTES, _PRIZE))
    assert mail.readings == (f"s\n\n{_SHOWN}\n\n{_MINUTES.decode()}", f"s\n\n{_SHOWN}")
    mixed = message_to_text(_HEAD + raw.replace(b"alternative", b"mixed") % (_MINUTES, _PRIZE))
    assert mixed.readings == (f"s\n\n{_MINUTES.decode()}",)


def test_html_before_a_multipart_is_read_beside_it() -> None:
    related = (
        b"Content-Type: multipart/related; boundary=r\n\n--r\nContent-Type: text/html\n\n%s\n--r--"
    )
    raw = (
        b"multipart/alternative; boundary=b\n\n--b\nContent-Type: text/html\n\n%s\n--b\n%s\n--b--\n"
    )
    assert body_of(raw % (_PRIZE, related % _MINUTES)) == f"{_MINUTES.decode()}\n\n{_SHOWN}"
    assert body_of(raw % (_PRIZE, related % _PRIZE)) == _SHOWN


@pytest.mark.parametrize("lines", ["bX", "b x"])
def test_a_boundary_that_lines_only_begin_with_is_found(lines: str) -> None:
    html = base64.encodebytes(_PRIZE)
    part = b"Content-Type: text/html\nContent-Transfer-Encoding: base64\n\n" + html
    body = b"--%s\n%s\n--%s--\n" % (lines.encode(), part, lines.encode())
    assert body_of(b"multipart/mixed; boundary=b\n\n" + body) == _SHOWN


def test_an_invitation_that_is_the_whole_message_is_read_as_its_card() -> None:
    event = b"BEGIN:VEVENT\nX-NOTE:unseen\nSUMMARY:Board meeting\nDESCRIPTION:In room 4\\, as ever"
    assert (
        body_of(b"text/calendar; method=REQUEST\n\n" + event) == "Board meeting\nIn room 4, as ever"
    )
    assert body_of(b"text/calendar\n\nBEGIN:VEVENT\nX-NOTE:all there is") == (
        "BEGIN:VEVENT\nX-NOTE:all there is"
    )


@pytest.mark.parametrize("kind", [b"message/x-note", b"application/pgp; format=text"])
def test_what_thunderbird_shows_as_plain_text_is_read(kind: bytes) -> None:
    assert body_of(kind + b"\n\nbuy now") == "buy now"
    mixed = b"multipart/mixed; boundary=b\n\n--b\nContent-Type: %s\n\nbuy now\n--b--"
    assert body_of(mixed % kind) == "buy now"
    two = b"multipart/mixed; boundary=b\n\n--b\n\nseen\n--b\nContent-Type: %s\n\nbuy now\n--b--"
    assert body_of(two % kind) == "seen\n\nbuy now"
    assert body_of(two % b"message/delivery-status") == "seen"


def test_line_ends_that_were_made_twice_leave_the_parts() -> None:
    html = base64.encodebytes(_PRIZE)
    raw = (
        b"multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n"
        b"Content-Transfer-Encoding: base64\n\n" + html + b"--b--\n"
    )
    raw = (_HEAD + raw).replace(b"\n", b"\r\r\n")
    assert message_to_text(raw).text.endswith(_SHOWN)
