"""How programs that write an mbox begin its messages."""

from pathlib import Path

import pytest

from app.records import open_source, read_records
from tests.conftest import written


@pytest.mark.parametrize(
    "begins",
    [
        "From ",  # Thunderbird
        "From a@example.org",
        "From a@example.org Mon Jan 15 10:00:00 2024",
        "From a@example.org Mon, 15 Jan 2024 10:00:00 GMT",
        f"From {'a ' * 125}@example.org Mon Jan 15 10:00:00 2024",
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_messages_begin_as_programs_write_it(tmp_path: Path, begins: str, ends: str) -> None:
    bodies = ["See you", ">From now on.\nBye"]
    mails = [
        ends.join([begins, f"Subject: {n}", "", body, "", ""]) for n, body in enumerate(bodies)
    ]
    path = written(tmp_path / "Inbox", "".join(mails).encode())
    texts = [record.text for record in read_records(open_source(path, None, "text"), "text")]
    assert texts == ["0\n\nSee you", "1\n\n>From now on.\nBye"]


def test_a_line_of_from_alone_within_a_text_begins_no_message(tmp_path: Path) -> None:
    text = "From \nthe shop: open\n\nFrom \nto you"
    path = written(tmp_path / "a.mbox", f"From a\nSubject: x\n\n{text}\n")
    [record] = read_records(open_source(path, None, "text"), "text")
    assert record.text == f"x\n\n{text}".replace("From \n", "From\n")
