"""Files of messages, record by record."""

import bz2
import errno
import io
import lzma
import os
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from app import bulk, records, text_lines
from app.bulk import chunks, main
from app.records import Record, SourceError, open_source, read_records
from model.classifier import Classifier
from model.folders import CheckpointError
from model.mail import MAX_CHARACTERS, MailText, message_to_text
from model.prediction import Prediction
from tests.conftest import HAM, written


def read(path: Path) -> list[Record]:
    return list(read_records(open_source(path, None, "text"), "text"))


@pytest.mark.parametrize(
    ("text", "charset"),
    [("Gewinn für Sie, Herr Müller", "cp1252"), ("Привет, ты придёшь на ужин?", "cp1251")],
)
def test_json_lines_are_read_though_they_are_not_utf8(
    tmp_path: Path, text: str, charset: str
) -> None:
    lines = [f'{{"text": "{text} {number}"}}'.encode(charset) for number in range(9)]
    found = read(written(tmp_path / "a.jsonl", b"\n".join(lines)))
    assert [record.text for record in found] == [f"{text} {number}" for number in range(9)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be"])
def test_json_lines_tell_their_unicode(tmp_path: Path, encoding: str) -> None:
    found = read(written(tmp_path / "a.jsonl", '{"text": "Grüße"}'.encode(encoding)))
    assert [record.text for record in found] == ["Grüße"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_texts_in_the_charset_of_windows_are_read(tmp_path: Path, name: str, encoding: str) -> None:
    texts = ["Gewinn für Sie, Herr Müller: 100 €", "You’ve won £1,000. Don’t wait – call now"]
    lines = {"a.txt": texts, "a.csv": ["Größe;,text", *(f'1,"{text}"' for text in texts)]}[name]
    found = read(written(tmp_path / name, "\r\n".join(lines).encode(encoding)))
    assert [record.text for record in found] == texts


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_lines_in_utf16_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="Convert it to UTF-8 first"):
        read(written(tmp_path / name, "text\nx\n".encode("utf-16")))


def test_file_that_vanishes_is_no_bad_record(tmp_path: Path) -> None:
    source = open_source(written(tmp_path / "a.txt", HAM), None, "text")
    source.path.unlink()
    with pytest.raises(FileNotFoundError):
        list(read_records(source, "text"))


def test_mbox_that_begins_with_blank_lines_has_no_message_before_its_first(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mbox", b"\n\nFrom a\nSubject: x\n\ny\n\nFrom b\nTo: c\n\nz")
    found = read(path)
    assert [record.text for record in found] == ["x\n\ny", "z"]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", ("word " * 40 + "\n") * 40_000)  # 8 MB
    source = open_source(path, None, "text")
    tracemalloc.start()
    num_records = sum(len(chunk) for chunk in chunks(read_records(source, "text")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_records == 40_000
    assert peak < 2 << 20


def test_long_texts_are_held_few_at_a_time() -> None:
    long = [Record("a", n, 0, "x" * 100_000) for n in range(7)]
    assert [len(chunk) for chunk in chunks(long)] == [3, 3, 1]


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.txt", b"one\ntwo", ["one", "two"]),
        ("a.jsonl", b'{"text": "one"}\n', ["one"]),
        ("a.csv", b"text\none\n", ["one"]),
        ("a.mbox", b"From a\nSubject: x\n\ny\n\nFrom b\nTo: c\n\nz", ["x\n\ny", "z"]),
    ],
)
def test_byte_order_mark_is_none_of_the_text(
    tmp_path: Path, name: str, content: bytes, texts: list[str]
) -> None:
    found = read(written(tmp_path / name, b"\xef\xbb\xbf" + content))
    assert [record.text for record in found] == texts
    assert not any(record.is_cut for record in found)


def test_brackets_without_end_are_no_json(tmp_path: Path) -> None:
    found = read(written(tmp_path / "a.jsonl", "[" * 100_000 + '\n{"text": "x"}\n'))
    assert [(record.text, record.problem) for record in found] == [(None, "not JSON"), ("x", "")]


def test_what_other_programs_packed_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", HAM)
    for packed in (
        bz2.compress(HAM.encode()),
        lzma.compress(HAM.encode()),
        (tmp_path / "a.zip").read_bytes(),
        b"\x28\xb5\x2f\xfd zstd",
        b"\x04\x22\x4d\x18 lz4",
        b"Dovecot-LZ4\r*\x9b\xc5",
    ):
        with pytest.raises(SourceError, match="is compressed"):
            read(written(tmp_path / "a.txt", packed))


def test_line_of_text_beyond_the_bound_is_cut_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 10)
    found = read(written(tmp_path / "a.txt", "123456789\n \t\r\n" + "x" * 30 + "\nend"))
    assert [(record.text, record.is_cut) for record in found] == [
        ("123456789", False),
        ("x" * 10, True),
        ("end", False),
    ]


def test_a_long_line_of_a_mail_takes_nothing_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 60)
    parts = "Content-Type: application/pdf\n\n" + "A" * 99 + "\n--b\n\nHello\n--b--\n"
    mail = f"From a\nSubject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n{parts}"
    found = read(written(tmp_path / "a.mbox", f"{mail}\nFrom a\nSubject: y\n\nend\n\n{mail}"))
    assert [record.text for record in found] == ["x\n\nHello", "y\n\nend", "x\n\nHello"]
    assert [record.is_cut for record in found] == [True, False, True]


def test_a_message_that_may_not_be_read_is_a_bad_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "12":
        written(tmp_path / "new" / name, f"Subject: {name}\n\n")

    def opened(path: Path, mode: str) -> Any:
        if path.name == "1":
            raise PermissionError(errno.EACCES, "Permission denied")
        return io.FileIO(path, mode)

    source = open_source(tmp_path, None, "text")
    monkeypatch.setattr(Path, "open", opened)
    [unread, other] = read_records(source, "text")
    assert (unread.problem, other.text) == ("the file may not be read", "2")


def test_message_is_held_up_to_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_of_each = []

    def read_message(raw: bytes) -> MailText:
        read_of_each.append(len(raw))
        return message_to_text(raw)

    monkeypatch.setattr(records, "MAX_MESSAGE_BYTES", 100)
    monkeypatch.setattr(records, "message_to_text", read_message)
    read(written(tmp_path / "a.mbox", "From a\n\n" + "line\n" * 1000 + "\nFrom b\nTo: c\n\nend"))
    read(written(tmp_path / "a.eml", "line\n" * 1000))
    assert read_of_each == [101, 10, 101]  # without the mbox's own line


def test_from_within_a_message_begins_no_other(tmp_path: Path) -> None:
    one = "one\nFrom here\n\nFromage\n\nFrom my end (not technical) some questions:\n\nwhy"
    one += "\n\nFrom Monday 10:30 on:"
    path = written(tmp_path / "a.mbox", f"From a\n\n{one}\n\nFrom b\nTo: c\n\ntwo")
    assert [record.text for record in read(path)] == [one, "two"]


def test_a_line_of_prose_that_tells_a_time_begins_no_message(tmp_path: Path) -> None:
    one = "The shop is open\nFrom Monday 10:00 to 18:00, call 0800 1234 now.\nBye"
    two = "From a Sat Jan  3 01:05:34 2026\n\ntwo"
    prose = "two\n\nFrom John\n\nhere\n\nFrom Monday 10:30, 12 May 2024, we are open.\n\nbye"
    prose += (
        "\nFrom Friday 10:30, 12 May 2024\nhttps://shop.example\n\nFrom Monday, Jan 15 09:00 until"
    )
    prose += " the end of Jan 2024 the road is closed.\nPlease plan."
    three = "From a@b Sun Jan  4 01:05:34 +0000 2026\nno header"
    four = "From b@c Fri, 05 Jan 2024 10:00:00 +0000\n\nof mail's date"
    messages = f"From a\n\n{one}\n{two.replace('two', prose)}\n\n{three}\n\n{four}"
    path = written(tmp_path / "a.mbox", messages)
    assert [record.text for record in read(path)] == [one, prose, "no header", "of mail's date"]


def test_lines_of_western_europe_are_read_as_such(tmp_path: Path) -> None:
    lines = ["Mañana", "déjà vu", "Schöne Grüße", "À bientôt", "5 € pour le café", "Où es-tu ?"]
    path = tmp_path / "a.txt"
    path.write_bytes("\n".join(lines).encode("cp1252"))
    assert [record.text for record in read(path)] == lines


@pytest.mark.parametrize("charset", ["cp1251", "koi8-r", "utf-8"])
@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_charset_is_that_of_all_lines(tmp_path: Path, name: str, charset: str) -> None:
    """A short line alone could be in anything."""
    lines = ["Спасибо", "день", "Да конечно", "привет", "Завтра в десять у метро", "Да", "плюс"]
    path = tmp_path / name
    path.write_bytes("\n".join([*(["text"] * (name == "a.csv")), *lines]).encode(charset))
    with path.open("ab") as file:
        file.write("\nUTF-8 тоже".encode())
    assert [record.text for record in read(path)] == [*lines, "UTF-8 тоже"]


@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_a_long_line_tells_its_own_charset(tmp_path: Path, name: str) -> None:
    russian = "Здравствуйте ваш заказ готов и ждёт вас в магазине на площади"
    lines = [(russian, "cp1251")] * 20 + [("こんにちは、お元気ですか。" * 4, "shift_jis")]
    lines += [("当選おめでとう 無料", "iso-2022-jp")]
    lines += [("СРОЧНЫЙ КРЕДИТ НАЛИЧНЫМИ БЕЗ СПРАВОК И ПОРУЧИТЕЛЕЙ ЗА ОДИН ДЕНЬ", "cp1251")]
    path = tmp_path / name
    head = b"text\n" * (name == "a.csv")
    path.write_bytes(head + b"\n".join(line.encode(charset) for line, charset in lines))
    assert [record.text for record in read(path)] == [line for line, _ in lines]


def test_json_line_may_hold_control_characters(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"text": "a\tb"}\n')
    assert [record.text for record in read(path)] == ["a\tb"]


def test_mbox_of_windows_is_read_message_by_message(tmp_path: Path) -> None:
    mbox = "From a\n\none\n\nFrom b\nTo: c\n\ntwo\n".replace("\n", "\r\n")
    assert [record.text for record in read(written(tmp_path / "a.mbox", mbox))] == ["one", "two"]


def test_message_of_which_a_part_is_not_read_is_told(tmp_path: Path) -> None:
    for length, is_cut in ((MAX_CHARACTERS // 2, False), (MAX_CHARACTERS + 1, True)):
        [record] = read(written(tmp_path / "a.eml", "Subject:\n\n" + "x" * length))
        assert record.is_cut is is_cut


@pytest.mark.parametrize(
    "line",
    [
        "From b@example.com Mon Jan  1 10:05:00 2024",
        "From - Mon Jan 15 10:00:00 2024",
        "From 1786543210123@xxx Mon Jan 15 10:00:00 +0000 2024",
        "From b Mon Jan  1 10:05 CET 2024",
    ],
)
def test_message_with_a_dated_line_needs_no_blank_one_before(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "a.mbox", f"{line}\nSubject: x\n\none\n{line}\nSubject: y\n\ntwo\n")
    assert [record.text for record in read(path)] == ["x\n\none", "y\n\ntwo"]


def test_messages_of_a_maildir_come_by_name_and_hidden_files_are_none(tmp_path: Path) -> None:
    (tmp_path / "new" / "folder").mkdir(parents=True)
    for name in (".lock", *"5316274"):
        written(tmp_path / "new" / name, f"Subject: {name}\n\n")
    assert [record.text for record in read(tmp_path)] == list("1234567")


def test_format_is_told_by_the_name_in_any_case_or_by_hand(tmp_path: Path) -> None:
    assert open_source(written(tmp_path / "A.TXT", HAM), None, "text").format == "txt"
    assert open_source(written(tmp_path / "a.ndjson", "{}"), None, "text").format == "jsonl"
    assert open_source(written(tmp_path / "a.txt", HAM), "eml", "text").format == "eml"
    with pytest.raises(SourceError, match="Say one with --format: txt, csv, jsonl, mbox, eml"):
        open_source(written(tmp_path / "a.bin", HAM), None, "text")


def test_names_of_files_need_not_be_text(
    save_tiny: Callable[..., Path], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = written(tmp_path / os.fsdecode(b"\xff.txt"), HAM)
    out = tmp_path / os.fsdecode(b"o\xff.jsonl")
    assert main([str(path), "--out", str(out), "--checkpoint", str(save_tiny())]) == 0
    told = capfdbinary.readouterr().out
    assert told.startswith(b"1 scored")
    assert told.endswith(b"o\\udcff.jsonl\n")


def test_a_disk_that_fills_ends_the_run_with_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(*_: object) -> tuple[int, int]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bulk, "_make_scorer", lambda options: None)
    monkeypatch.setattr(bulk, "run", write)
    out = tmp_path / "out.jsonl"
    assert main([str(written(tmp_path / "a.txt", HAM)), "--out", str(out)]) == 2
    told = f"app.bulk: {out}: No space left on device. Mend that, and start again to go on.\n"
    assert capsys.readouterr().err == told


def test_run_that_needs_less_memory_is_told_how_to_take_it(
    save_tiny: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = save_tiny()

    def predict(classifier: Classifier, texts: Any) -> list[Prediction]:
        if classifier.max_batch_tokens > 2048:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return in_memory(classifier, texts)

    in_memory = Classifier.predict
    monkeypatch.setattr(Classifier, "predict", predict)
    monkeypatch.setattr(Classifier, "check_golden", lambda classifier: None)
    monkeypatch.setenv("SPAMGATE_DTYPE", "float32")
    texts, out = written(tmp_path / "a.txt", HAM), tmp_path / "out.jsonl"
    command = [str(texts), "--out", str(out), "--checkpoint", str(checkpoint), "--device", "cpu"]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert told.startswith("app.bulk: CUDA out of memory. Start again to go on, with SPAMGATE_")
    assert "2 GiB" not in told
    monkeypatch.setenv("SPAMGATE_MAX_BATCH_TOKENS", "2048")
    assert main(command) == 0
    assert len(out.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("flag", "told"), [("--checkpoint", "no checkpoint folder"), ("--device", "device 'absent'")]
)
def test_a_model_that_cannot_be_used_is_one_line_and_code_2(
    flag: str, told: str, save_tiny: Callable[..., Path], tmp_path: Path, capsys: Any
) -> None:
    arguments = [str(written(tmp_path / "a.txt", HAM)), "--out", str(tmp_path / "out.jsonl")]
    assert main([*arguments, "--checkpoint", str(save_tiny()), flag, "absent"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"app.bulk: {told}")
    assert error.count("\n") == 1


def test_the_model_is_loaded_as_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*arguments: str) -> Classifier:
        raise CheckpointError(" ".join(arguments))

    monkeypatch.setenv("SPAMGATE_DEVICE", "cuda:3")
    monkeypatch.setenv("SPAMGATE_DTYPE", "bfloat16")
    monkeypatch.setattr(Classifier, "load", load)
    arguments = [str(written(tmp_path / "a.txt", HAM)), "--out", str(tmp_path / "out.jsonl")]
    assert main([*arguments, "--checkpoint", "some/folder"]) == 2
    assert capsys.readouterr().err == "app.bulk: some/folder cuda:3 bfloat16\n"
    assert main([*arguments, "--checkpoint", ""]) == 2  # a variable that is not set
    assert "checkpoint is '': String should have" in capsys.readouterr().err


def test_a_file_system_that_knows_no_locks_takes_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    classifier = SimpleNamespace(name="m")
    scorer: Any = SimpleNamespace(classifier=classifier, settings="s", column="text")
    assert bulk.run([], scorer, tmp_path / "out.jsonl") == (0, 0)


def test_reading_an_mbox_takes_linear_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_as = partial(SimpleNamespace, truncated=False)
    monkeypatch.setattr(records, "message_to_text", lambda raw: read_as(readings=[str(len(raw))]))
    line = b"x" * 76 + b"\n"
    path = written(tmp_path / "a.mbox", b"From a\nSubject: x\n\n" + line * 110_000)  # 8 MB
    begin = time.process_time()
    assert [record.text for record in read(path)] == [str(path.stat().st_size - 7)]
    assert time.process_time() - begin < 4


@pytest.mark.parametrize("value", ["x", "1.5", "nan"])
def test_cutoff_that_is_no_probability_is_told(
    capsys: pytest.CaptureFixture[str], value: str
) -> None:
    with pytest.raises(SystemExit) as error:
        main(["a.txt", "--out", "out.jsonl", "--spam-from", value])
    assert error.value.code == 2
    told = f"argument --spam-from: {value!r} is no number from 0 to 1\n"
    assert capsys.readouterr().err.endswith(told)
