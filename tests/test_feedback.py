"""Feedback: kept durably, once per source, within bounds; read back with guards."""

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

import app.feedback
from app.errors import FeedbackBusy, FeedbackFull
from app.feedback import FeedbackStore, Report, digest_of
from app.settings import SettingsError
from model.fold import fold_text
from model.mail import MAX_CHARACTERS, head_and_tail
from tests.conftest import HAM, SPAM
from tests.serving import serving
from training.feedback import read_feedback

MAIL = f"Subject: Hello\r\n\r\n{SPAM}\r\n".encode()
KEY = {"x-api-key": "secret"}


def tell(
    checkpoint: Path,
    file: Path,
    *reports: dict[str, Any] | bytes,
    headers: dict[str, str] = KEY,
    query: str = "",
    **settings: object,
) -> list[httpx.Response]:
    """The replies to these reports, told to one service."""

    async def scenario() -> list[httpx.Response]:
        values = {"feedback_key": "secret", "feedback_file": file, **settings}
        async with serving(checkpoint, **values) as client:
            replies = []
            for report in reports:
                raw = isinstance(report, bytes)
                content = report if isinstance(report, bytes) else json.dumps(report).encode()
                kind = {"content-type": "message/rfc822" if raw else "application/json"} | headers
                path = f"/feedback{query}"
                replies.append(await client.post(path, content=content, headers=kind))
            return replies

    return asyncio.run(scenario())


def report(digest: str, label: str, source: str, text: str | None = "text") -> Report:
    return Report(digest, label, source, text)


def test_texts_messages_and_digests_are_kept(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "feedback.sqlite"
    replies = tell(
        save_tiny(),
        file,
        {"text": HAM, "label": "ham", "source": "joe"},
        {"message": MAIL.decode(), "label": "spam", "source": "joe"},
        {"digest": digest_of("seen elsewhere"), "label": "spam"},
    )
    assert [reply.status_code for reply in replies] == [200, 200, 200]
    assert replies[0].json() == {"digest": digest_of(HAM), "new": True}
    kept = read_feedback([file])
    assert {(example.text, example.label) for example in kept.examples} == {
        (HAM, 0),
        (f"Hello\n\n{SPAM}", 1),
    }
    assert kept.textless == 1
    assert kept.summary() == "feedback: 2 texts; left out 1 of which nobody sent the text"


def test_raw_message_is_told_with_a_query(save_tiny: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "feedback.sqlite"
    [reply] = tell(save_tiny(), file, MAIL, query="?label=spam&source=imapsieve")
    assert reply.json()["new"]
    assert [example.label for example in read_feedback([file]).examples] == [1]


def test_raw_message_in_json_may_hold_bytes_that_are_not_utf8(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    raw = b"Subject: x\n\nGewinn f\xfcr Sie"
    told = {"message": raw.decode("utf-8", "surrogateescape"), "label": "spam"}
    tell(save_tiny(), tmp_path / "f", told)
    [example] = read_feedback([tmp_path / "f"]).examples
    assert example.text == "x\n\nGewinn für Sie"


def test_the_same_report_counts_once(save_tiny: Callable[..., Path], tmp_path: Path) -> None:
    same = {"text": SPAM, "label": "spam", "source": "joe"}
    replies = tell(save_tiny(), tmp_path / "f", same, same, same | {"label": "ham"})
    assert not (tmp_path / "f-wal").exists()  # so that the file may be moved by itself
    assert [reply.json()["new"] for reply in replies] == [True, False, True]
    assert [example.label for example in read_feedback([tmp_path / "f"]).examples] == [0]


def test_text_is_kept_that_comes_after_its_digest(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    by_digest = {"digest": digest_of(SPAM).upper(), "label": "spam", "source": "joe"}
    by_text = {"text": SPAM, "label": "spam", "source": "joe"}
    reports = (by_digest, by_digest, by_text, by_digest, by_text)
    replies = tell(save_tiny(), tmp_path / "f", *reports)
    assert [reply.json()["new"] for reply in replies] == [True, False, True, False, False]
    assert {reply.json()["digest"] for reply in replies} == {digest_of(SPAM)}
    kept = read_feedback([tmp_path / "f"])
    assert [example.text for example in kept.examples] == [SPAM]
    assert kept.textless == 0


def test_text_stays_when_its_label_is_changed_by_digest(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f", max_bytes=1 << 20)
    store.add(report("d", "spam", "joe"))
    store._connection.execute("UPDATE feedback SET received = 0")
    assert store.add(report("d", "ham", "joe", None))
    assert store._connection.execute("SELECT received > 0 FROM feedback").fetchall() == [(1,)]
    store.close()
    assert [(e.text, e.label) for e in read_feedback([tmp_path / "f"]).examples] == [("text", 0)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": "x", "label": "maybe"},
        {"text": "x"},
        {"label": "ham"},
        {"label": "ham", "digest": "ab" * 31},
        {"label": "ham", "text": 1},
        {"label": "ham", "message": "Content-Type: image/png\n\n"},
        {"label": "ham", "message": "Content-Type: text/plain\n\n\u200b\u00ad"},
        {"label": "ham", "text": ""},
        {"label": "ham", "text": "x", "source": 1},
        {"label": "ham", "digest": "ab" * 32, "text": 5},
        {"label": "ham", "digest": "ab" * 32, "message": [1]},
        [],
    ],
)
def test_wrong_reports_are_refused(
    save_tiny: Callable[..., Path], tmp_path: Path, wrong: dict[str, Any]
) -> None:
    [reply] = tell(save_tiny(), tmp_path / "f", wrong)
    assert reply.status_code == 400


def test_json_sent_as_something_else_is_told_how_to_send_it(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    body = json.dumps({"text": SPAM, "label": "spam"}).encode()
    [reply] = tell(save_tiny(), tmp_path / "f", body)
    assert reply.status_code == 400
    assert "Content-Type: application/json" in reply.json()["detail"]


def test_json_that_is_not_utf8_is_taken_as_it_is_elsewhere(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    body = b'{"text": "Caf\xe9", "label": "spam"}'
    headers = KEY | {"content-type": "application/json"}
    [reply] = tell(save_tiny(), tmp_path / "f", body, headers=headers)
    assert reply.status_code == 200
    assert [example.text for example in read_feedback([tmp_path / "f"]).examples] == ["Caf\ufffd"]


def test_file_that_is_full_is_moved_while_no_service_writes(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f", 0)
    with pytest.raises(FeedbackFull, match="stop the service, move the file away"):
        store.add(report("0", "ham", "joe"))
    store.close()


def test_a_report_too_large_to_read_is_told_so(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    report = {"text": "x" * 100_000, "label": "ham"}
    [reply] = tell(save_tiny(), tmp_path / "f", report, max_body_bytes=50_000)
    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")


def test_awkward_texts_are_kept(save_tiny: Callable[..., Path], tmp_path: Path) -> None:
    awkward = ["a\0", "lone \ud83d", "\udcff", "x" * 100_000]
    reports = [{key: text, "label": "ham"} for text in awkward for key in ("text", "message")]
    replies = tell(save_tiny(), tmp_path / "f", *reports)
    assert {reply.status_code for reply in replies} == {200}


def test_what_is_kept_of_a_report_is_bounded(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    words = "Some words. " * 20_000  # of which the model reads beginning and end
    long = {"text": words, "label": "ham", "source": "s" * 300}
    [reply] = tell(save_tiny(), tmp_path / "f", long)
    with closing(sqlite3.connect(tmp_path / "f")) as file:
        kept = file.execute("SELECT length(source), length(text), digest FROM feedback").fetchall()
    read = fold_text(head_and_tail(words, MAX_CHARACTERS))
    assert kept == [(100, 20_000, digest_of(read))]
    assert reply.json()["digest"] == kept[0][2]


def test_it_is_off_without_a_key_and_closed_to_others(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    folder, told = save_tiny(), {"text": SPAM, "label": "spam"}
    [off] = tell(folder, tmp_path / "f", told, feedback_key=None)
    assert off.status_code == 404
    [closed] = tell(folder, tmp_path / "f", told, headers={"x-api-key": "guess"})
    assert closed.status_code == 401


def test_its_key_is_enough_where_access_keys_are_needed(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("filter other-key\n")
    [reply] = tell(save_tiny(), tmp_path / "f", {"text": SPAM, "label": "spam"}, api_keys_file=keys)
    assert reply.status_code == 200


def test_reports_survive_the_process_and_are_written_while_others_read(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f", max_bytes=1 << 20)
    store.add(report("d", "spam", "joe"))
    # Read while the other connection is still open, as after a crash.
    other = FeedbackStore(tmp_path / "f", max_bytes=1 << 20)
    assert not other.add(report("d", "spam", "joe"))
    other._connection.execute("BEGIN")
    assert other._connection.execute("SELECT label FROM feedback").fetchall() == [("spam",)]
    assert store.add(report("e", "ham", "joe"))  # though somebody reads
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    store.close()
    other.close()


def test_reports_are_in_the_file_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        store = FeedbackStore(Path(":memory:"), max_bytes=1 << 20)  # a word of SQLite's
        is_new = store.add(report("d", "spam", "joe"))
        store.close()
    assert not is_new


def test_file_does_not_grow_beyond_its_bound(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f", max_bytes=200_000)
    for number in range(80):
        assert store.add(report(str(number), "spam", "joe", "x" * 1_000))

    def add_more() -> None:
        for number in range(80, 1_000):
            store.add(report(str(number), "spam", "joe", "x" * 1_000))

    with pytest.raises(FeedbackFull):
        add_more()
    assert (tmp_path / "f").stat().st_size < 400_000
    store.close()


@pytest.mark.parametrize("is_replaced", [False, True])
def test_nothing_is_acknowledged_once_the_file_is_gone(tmp_path: Path, is_replaced: bool) -> None:
    store = FeedbackStore(tmp_path / "f", max_bytes=1 << 20)
    assert store.add(report("d", "spam", "joe"))
    (tmp_path / "f").rename(tmp_path / "g")
    if is_replaced:
        (tmp_path / "f").touch()
    with pytest.raises(FeedbackBusy, match="moved or removed"):
        store.add(report("e", "spam", "joe"))
    store.close()


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f", max_bytes=1 << 20)
    store._connection.execute("PRAGMA max_page_count = 5")  # as a disk without room answers
    with pytest.raises(FeedbackFull, match="disk"):
        store.add(report("a" * 20_000, "spam", "joe", "x" * 20_000))
    store.close()


def test_a_disk_that_fails_is_told_as_such(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FeedbackStore(tmp_path / "f", max_bytes=1 << 20)
    store._connection.execute("PRAGMA query_only = ON")  # as a disk that is read-only now answers
    with pytest.raises(FeedbackBusy, match="cannot be written .*readonly"):
        store.add(report("a", "spam", "joe"))
    assert "feedback not kept" in caplog.messages
    store.close()


def test_a_file_that_a_disk_has_damaged_is_told_as_such(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f", max_bytes=1 << 20)
    store.add(report("a", "spam", "joe"))
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store._connection.execute("PRAGMA cache_size = 0")
    size = (tmp_path / "f").stat().st_size
    with (tmp_path / "f").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(FeedbackBusy, match=r"cannot be written .*malformed"):
        store.add(report("b", "spam", "joe"))
    store.close()


def test_a_locked_file_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.feedback, "_LOCKED_SECONDS", 0.0)
    store = FeedbackStore(tmp_path / "f", max_bytes=1 << 20)
    other = sqlite3.connect(tmp_path / "f", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(FeedbackBusy) as caught:
        store.add(report("a", "spam", "joe"))
    assert caught.value.retry_after_seconds == 1
    other.close()
    assert store.add(report("a", "spam", "joe"))
    store.close()


def test_reports_that_wait_for_a_locked_file_hold_no_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.feedback, "_LOCKED_SECONDS", 1.0)
    store = FeedbackStore(tmp_path / "f", max_bytes=1 << 20)
    running, most = [0], [0]

    def add(told: Report) -> bool:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.3)
        running[0] -= 1
        return True

    monkeypatch.setattr(store, "add", add)

    async def scenario() -> list[bool | BaseException]:
        told = [store.add_in_turn(report(str(n), "spam", "joe")) for n in range(9)]
        return await asyncio.gather(*told, return_exceptions=True)

    begin = time.monotonic()
    answers = asyncio.run(scenario())
    assert time.monotonic() - begin < 2.5
    assert most == [1]
    assert 2 <= answers.count(True) <= 4
    assert all(answer is True or isinstance(answer, FeedbackBusy) for answer in answers)
    store.close()


def test_a_report_whose_sender_has_gone_keeps_its_turn_until_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeedbackStore(tmp_path / "f", max_bytes=1 << 20)
    order: list[str] = []
    begun, may_end = threading.Event(), threading.Event()

    def add(told: Report) -> bool:
        order.append(f"{told.digest} begins")
        begun.set()
        assert may_end.wait(timeout=10)
        order.append(f"{told.digest} ends")
        return True

    monkeypatch.setattr(store, "add", add)

    async def scenario() -> None:
        gone = asyncio.create_task(store.add_in_turn(report("a", "spam", "joe")))
        await asyncio.to_thread(begun.wait, 10)
        gone.cancel()
        waits = asyncio.create_task(store.add_in_turn(report("b", "spam", "joe")))
        await asyncio.wait([gone])
        await asyncio.wait([waits], timeout=0.2)
        assert order == ["a begins"]
        may_end.set()
        assert await waits

    asyncio.run(scenario())
    assert order == ["a begins", "a ends", "b begins", "b ends"]
    store.close()


def test_a_file_that_may_not_be_written_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FeedbackStore(tmp_path / "f", max_bytes=1 << 20).close()
    connection = sqlite3.connect(f"file:{tmp_path / 'f'}?mode=ro", uri=True)
    monkeypatch.setattr(sqlite3, "connect", lambda *arguments, **values: connection)
    with pytest.raises(SettingsError, match="readonly"):
        FeedbackStore(tmp_path / "f", max_bytes=1 << 20)


def test_a_file_of_another_program_is_refused_at_the_start(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "f")) as other:
        other.execute("CREATE TABLE feedback (id INTEGER, comment TEXT)")
    with pytest.raises(SettingsError, match="no such column: digest"):
        FeedbackStore(tmp_path / "f", max_bytes=1 << 20)
