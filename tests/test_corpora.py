"""Corpora: read as they were written, refused where they are not what they should be."""

import csv
import gzip
import json
import os
import re
from pathlib import Path

import pytest

from tests.conftest import written
from training import corpora
from training.config import CorpusError, TrainConfig
from training.corpora import (
    Example,
    read_corpora,
    read_csv,
    read_jsonl,
    read_mail_folder,
    read_sms,
    read_sms_as_the_book,
    read_training_only,
    sha256_of,
)
from training.furniture import FURNITURE_FILE
from training.invented import renamed


def test_sms_file_reads_as_its_authors_wrote_it(sms_file: Path) -> None:
    examples = read_sms(sms_file)
    assert (len(examples), sum(e.label for e in examples)) == (5574, 747)


def test_quotation_mark_without_its_other_is_told_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "sms.txt"
    path.write_text('ham\tfine\nham\t"open\n' + "ham\tmore of it\n" * 20_000)
    before = csv.field_size_limit(131_072)  # what it is where nobody has raised it
    try:
        with pytest.raises(CorpusError, match="a quotation mark without its other"):
            read_sms_as_the_book(path)
    finally:
        csv.field_size_limit(before)


def test_folders_of_mail_are_spam_or_ham_by_their_names(tmp_path: Path) -> None:
    for name in ("Spam", "spam_2", "easy-ham", "HAM"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.txt").write_text(f"Subject: x\n\n{name}\n")
    found = {e.text.split()[-1]: e.label for e in read_mail_folder(tmp_path)}
    assert found == {"Spam": 1, "spam_2": 1, "easy-ham": 0, "HAM": 0}
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "1.txt").write_text("Subject: x\n\ny\n")
    with pytest.raises(CorpusError, match="junk holds messages: name it"):
        read_mail_folder(tmp_path)


def test_a_folder_of_mail_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"cannot read the corpus .*none: no such file or folder"):
        read_mail_folder(tmp_path / "none")
    with pytest.raises(CorpusError, match="holds no messages: expected folders"):
        read_mail_folder(tmp_path)


def test_mail_may_be_named_eml_and_what_is_passed_over_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ham", "spam"):
        written(tmp_path / name / "1.eml", f"Subject: x\n\n{name}\n")
    assert [example.label for example in read_mail_folder(tmp_path)] == [0, 1]
    assert capsys.readouterr().out == ""
    written(tmp_path / "ham" / "deeper" / "1.eml", "Subject: x\n\ny\n")
    written(tmp_path / "ham" / "00001.7c53", "Subject: x\n\ny\n")
    assert len(read_mail_folder(tmp_path)) == 2
    assert ": 2 files are not read: no .eml or .txt, or not in ham" in capsys.readouterr().out


def test_book_reads_two_rows_less(sms_file: Path) -> None:
    examples = read_sms_as_the_book(sms_file)
    assert (len(examples), sum(e.label for e in examples)) == (5572, 747)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ham\tfine\nmaybe\tunsure\n", "line 2: expected ham or spam"),
        (b"ham\tfine\nspam\n", "line 2: expected ham or spam"),
        (b"ham\t\xff\n", "not UTF-8 at byte 4"),
    ],
)
def test_unreadable_corpus_is_a_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "corpus"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        read_sms(path)


def test_empty_rows_count_for_neither_reader(tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    path.write_text("ham\tfine\n\nspam\twin\n\n")
    assert read_sms_as_the_book(path) == read_sms(path)
    assert len(read_sms(path)) == 2


def test_marks_of_windows_are_no_part_of_the_texts(tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    path.write_bytes(b"\xef\xbb\xbfham\tfine\r\n\r\nspam\twin\r\n")
    expected = [Example("fine", 0, "sms"), Example("win", 1, "sms")]
    assert read_sms(path) == expected
    assert read_sms_as_the_book(path) == expected
    path.write_bytes(b'\xef\xbb\xbf{"label": "spam", "text": "win"}\r\n\r\n')
    assert [example.text for example in read_jsonl(path)] == ["win"]
    texts = ("\ufeffone\ufeff two", "\ufeff")
    path.write_text("\n".join(json.dumps({"label": "ham", "text": text}) for text in texts))
    assert [example.text for example in read_jsonl(path)] == ["one two"]


@pytest.mark.parametrize(
    "line",
    [
        '{"label": "ham", "te',
        '{"label": "ham", "text": null}',
        '{"label": "ham", "text": 5}',
        '{"label": null, "text": "fine"}',
        '["ham", "fine"]',
        "[" * 100_000,
    ],
)
def test_json_line_of_another_form_is_a_clear_error(tmp_path: Path, line: str) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(f'{{"label": "spam", "text": "win"}}\n{line}\n')
    with pytest.raises(CorpusError, match="line 2: expected a JSON object with label"):
        read_jsonl(path)


def test_a_label_that_is_none_is_told_as_it_came(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    for label, told in (("Maybe", "'Maybe'"), (2, "'2'"), ("x" * 99, "of 99 characters")):
        path.write_text(json.dumps({"label": label, "text": "fine"}))
        with pytest.raises(CorpusError, match=f"line 1: the label is {told}: write ham or 0, spam"):
            read_jsonl(path)


def test_blank_lines_and_rows_are_passed_over(tmp_path: Path) -> None:
    lines = written(tmp_path / "a.jsonl", ' \n{"label": "spam", "text": "win"}\n\t \r\n\n')
    assert [e.text for e in read_jsonl(lines)] == ["win"]
    table = written(tmp_path / "a.csv", "label,text\n,\n\nspam,win\n , \n,,,\n \nham,fine,, \n")
    assert [e.text for e in read_csv(table)] == ["win", "fine"]


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        ("a b.csv", b"\xe9", "cat '{}' | iconv -f WINDOWS-1252 -t UTF-8 > 'utf8-a b.csv'"),
        ("a.csv", "é".encode("utf-16"), "cat {} | iconv -f UTF-16 -t UTF-8 > utf8-a.csv"),
        (
            "a.csv.gz",
            gzip.compress(b"\xe9", mtime=0),
            "zcat {} | iconv -f WINDOWS-1252 -t UTF-8 > utf8-a.csv",
        ),
    ],
)
def test_a_file_that_is_not_utf8_is_told_how_to_be_converted(
    tmp_path: Path, name: str, content: bytes, command: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CorpusError, match="not UTF-8 at byte 0: convert it") as caught:
        read_csv(path)
    assert str(caught.value).endswith(f" such as by {command.format(path)}.")


def test_json_lines_may_be_packed(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl.gz"
    packed = gzip.compress(b'{"label": "spam", "text": "win"}\n')
    path.write_bytes(packed)
    assert read_jsonl(path) == [Example("win", 1, "texts")]
    for damaged in (b"not gzip", packed[:-9]):
        path.write_bytes(damaged)
        with pytest.raises(CorpusError, match="not a whole gzip file"):
            read_jsonl(path)


def test_a_table_is_read_as_json_lines_are(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    long = "x" * 200_000
    path.write_bytes(
        f'\ufefftext,label,id\r\n"win, ""now""\nhere",spam,1\r\n{long},ham,2\r\n,ham,3\r\n'.encode()
    )
    before = csv.field_size_limit()
    try:
        corpus = read_corpora([f"csv={path}"], TrainConfig(corpora=("csv",)))
    finally:
        csv.field_size_limit(before)
    assert corpus.examples == [Example('win, "now"\nhere', 1, "mine"), Example(long, 0, "mine")]
    other = tmp_path / "mine.jsonl"
    other.write_text('{"label": "spam", "text": "win"}\n')
    with pytest.raises(CorpusError, match="two corpora are named mine"):
        read_corpora([f"csv={path}", f"jsonl={other}"], TrainConfig(corpora=("csv", "jsonl")))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("label;text\nspam;win\n", r"line 1: expected label,text, not \['label;text'\]"),
        ("v1,v2\nspam,win\n", r"line 1: expected label,text, not \['v1', 'v2'\]"),
        ("", r"line 1: expected label,text, not \[\]"),
        ("label,text,Text\nham,a,b\n", r"line 1: expected label,text, not \['label', 'text', 'te"),
        ("label,text\nspam\n", "line 2: expected a row .* with label"),
        ("label,text\nspam,win 1,000\n", r"line 2: expected a row \(texts with commas in quot"),
        ("label,text\nspan,win\n", "line 2: the label is 'span': write ham or 0, spam or 1"),
        ("label,text\n,,win\n", "line 2: expected a row"),
        ("label,text\n,\n,win\n", "line 3: the label is ''"),
        ("label,text\nsee you at nine,ham\n", "line 2: the label is of 15 characters: write ham"),
        ('label,text\nspam,"win\n', "up to line 2: unexpected end of data"),
    ],
)
def test_a_table_of_another_form_is_a_clear_error(tmp_path: Path, table: str, message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(table)
    with pytest.raises(CorpusError, match=message):
        read_csv(path)


def test_tables_of_the_book_and_of_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    for table in ("Label,Text\n0,fine\n1,win\n", "text, LABEL\nfine,Ham ,,\nwin,SPAM\n"):
        path.write_text(table)
        assert [(e.text, e.label) for e in read_csv(path)] == [("fine", 0), ("win", 1)]


def test_texts_of_other_kinds_than_the_recipes_are_pointed_to_one_that_takes_them() -> None:
    with pytest.raises(CorpusError, match=r"given: jsonl\. .*base_own\.toml"):
        read_corpora(["jsonl=mine.jsonl"], TrainConfig())


def test_two_corpora_of_one_name_are_refused(tmp_path: Path) -> None:
    places = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "texts.jsonl"
        path.write_text('{"label": "spam", "text": "win"}\n')
        places.append(f"jsonl={path}")
    with pytest.raises(CorpusError, match="two corpora are named texts"):
        read_corpora(places, TrainConfig(corpora=("jsonl",)))
    (tmp_path / "messages").write_text("ham\thello\n")
    path.rename(tmp_path / "sms.jsonl")  # figures of both would be those of "sms"
    for places in (["sms=messages", "jsonl=sms.jsonl"], ["jsonl=sms.jsonl", "sms=messages"]):
        given = [place.replace("=", f"={tmp_path}/") for place in places]
        with pytest.raises(CorpusError, match="two corpora are named sms"):
            read_corpora(given, TrainConfig(corpora=("sms", "jsonl")))


def test_a_message_in_another_group_is_another_corpus(tmp_path: Path) -> None:
    for group in ("ham", "spam"):
        (tmp_path / group).mkdir()
    (tmp_path / "ham" / "1.txt").write_text("hello")
    before = sha256_of(tmp_path)
    (tmp_path / "ham" / "1.txt").rename(tmp_path / "spam" / "1.txt")
    assert sha256_of(tmp_path) != before


def test_a_name_that_is_not_utf8_is_a_part_of_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "ham").mkdir()
    odd = os.path.join(os.fsencode(tmp_path), b"ham", b"caf\xe9.txt")
    try:
        Path(os.fsdecode(odd)).write_text("hello")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    before = sha256_of(tmp_path)
    os.rename(odd, odd.replace(b"\xe9", b"\xe8"))
    assert sha256_of(tmp_path) != before


def test_the_list_of_furniture_is_among_the_hashes_where_it_is_read(corpus: Path) -> None:
    without, read = (
        read_corpora([str(corpus)], TrainConfig(furniture=chance)) for chance in (0.0, 0.3)
    )
    assert read.sha256 == without.sha256 | {FURNITURE_FILE.name: sha256_of(FURNITURE_FILE)}
    assert read.examples == without.examples


def test_replay_is_dealt_among_seeds(corpus: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for path in paths:
        lines = (json.dumps({"label": "ham", "text": f"{path.stem} {n}"}) for n in range(10))
        path.write_text("\n".join(lines))
    recipe = TrainConfig(replay=tuple(map(str, paths)), replay_parts=3)

    def read(seed: int) -> list[str]:
        found = read_corpora([str(corpus)], recipe.model_copy(update={"seed": seed}))
        assert found.sha256["two.jsonl"] == sha256_of(paths[1])
        return [e.text for e in found.examples if e.training_only and e.source == "replay"]

    parts = [read(seed) for seed in range(3)]
    assert [len(part) for part in parts] == [6, 6, 6]
    assert len({text for part in parts for text in part}) == 18
    assert read(4) == parts[1]
    assert all({text.split()[0] for text in part} == {"one", "two"} for part in parts)
    with pytest.raises(CorpusError, match="replay_parts is 21, and replay has 20 messages"):
        read_corpora([str(corpus)], recipe.model_copy(update={"replay_parts": 21}))


def test_invented_names_for_training_get_endings_that_mail_has(tmp_path: Path) -> None:
    path = tmp_path / "synthetic.jsonl"
    text = "see win.example, an example. Mail a@bank.example.co.uk, http://win.example/x"
    path.write_text(json.dumps({"label": "ham", "text": text}) + "\n")
    [example] = read_training_only([str(path)])
    assert example.training_only
    assert ".example" not in example.text
    assert re.fullmatch(
        r"see (win\.[a-z.]+), an example\. Mail a@bank\.co\.uk, http://\1/x", example.text
    )


@pytest.mark.parametrize("text", ["見win.exampleに", "win.example에서", "at WIN.EXAMPLE now"])
def test_invented_names_get_endings_whatever_stands_round_them(text: str) -> None:
    assert ".example" not in renamed(text).lower()


def test_mail_is_read_whatever_the_case_of_its_ending(tmp_path: Path) -> None:
    for place in ("ham/1.EML", "ham/2.txt", "spam/3.Txt", "spam/4.eml", "spam/cmds"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(f"Subject: {place}\n\nx\n")
    assert [example.label for example in read_mail_folder(tmp_path)] == [0, 0, 1, 1]


def test_a_corpus_that_can_be_read_but_once_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorpusError, match="read but once"):
        corpora.Source.parse(f"csv={tmp_path / 'pipe'}")


def test_several_files_of_one_kind_may_be_told_as_often(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.csv" for n in range(2)]
    for n, path in enumerate(files):
        path.write_text(f"label,text\nham,hello {n}\nspam,win {n}\n")
    config = TrainConfig(corpora=("csv", "csv"))
    assert len(read_corpora([f"csv={path}" for path in files], config).examples) == 4


def test_a_corpus_in_the_folder_where_one_stands_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("ham", "spam"):
        (tmp_path / "mails" / label).mkdir(parents=True)
        (tmp_path / "mails" / label / "a.eml").write_text(f"Subject: {label}\n\nhi {label}")
    (tmp_path / "mails" / "ham" / "b.eml").mkdir()
    monkeypatch.chdir(tmp_path / "mails")
    corpus = read_corpora(["mail=."], TrainConfig(corpora=("mail",)))
    assert (list(corpus.sha256), len(corpus.examples)) == (["mails"], 2)


def test_values_under_no_name_are_a_cut_text(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "label,text,,\nspam,You have won,call now,\nham,see you,,\n")
    with pytest.raises(CorpusError, match="line 2: expected a row"):
        read_csv(path)
    written(path, "label,text,,\nspam,You have won,,\nham,see you,,\n")
    assert [(e.label, e.text) for e in read_csv(path)] == [(1, "You have won"), (0, "see you")]
