"""The starter's corpora, laid out as its recipes read them."""

import csv
import gzip
import hashlib
import io
import json
import socket
import tarfile
import zipfile
from pathlib import Path
from threading import Thread

import pytest

from training import get_data
from training.config import CorpusError
from training.corpora import mail_paths, sha256_of
from training.get_data import Archive, get_comments, get_mail, main

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
HEADER = ("COMMENT_ID", "AUTHOR", "DATE", "CONTENT", "CLASS")


def archive_of(content: bytes, path: Path) -> Archive:
    path.write_bytes(content)
    return Archive(path.as_uri(), hashlib.sha256(content).hexdigest())


def zip_of(tables: dict[str, list[tuple[str, str]]], path: Path) -> Archive:
    """The publisher's tables, with what a Mac packs beside each."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, rows in reversed(tables.items()):
            table = io.StringIO(newline="")
            writer = csv.writer(table)
            writer.writerows([HEADER, *(("id", "author", "2013", *row) for row in rows)])
            archive.writestr(name, table.getvalue())
            archive.writestr(f"__MACOSX/._{name}", b"\xff\xfe")
    return archive_of(content.getvalue(), path)


def tar_of(names: dict[str, bytes], path: Path) -> Archive:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:bz2") as archive:
        for name, message in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(message)
            archive.addfile(member, io.BytesIO(message))
        folder = tarfile.TarInfo(f"easy_ham/00003.{'c' * 32}")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    return archive_of(content.getvalue(), path)


def test_comments_become_json_lines(tmp_path: Path) -> None:
    tables = {
        "Youtube01-Psy.csv": [("see my channel\ufeff", "1"), ('so "funny",\nreally', "0")],
        "Youtube02-KatyPerry.csv": [("강남", "0")],
    }
    path = tmp_path / "comments.jsonl.gz"
    get_comments(path, zip_of(tables, tmp_path / "tables.zip"))
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert [tuple(json.loads(line).values()) for line in lines] == [
        ("Youtube01-Psy-1", "spam", "see my channel\ufeff"),
        ("Youtube01-Psy-2", "ham", 'so "funny",\nreally'),
        ("Youtube02-KatyPerry-1", "ham", "강남"),
    ]


def test_the_starters_comments_are_made_byte_for_byte(tmp_path: Path) -> None:
    known = SHARED / "youtube-spam" / "youtube-spam.jsonl.gz"
    if not known.exists():
        pytest.skip("needs the YouTube Spam Collection beside the repository")
    tables: dict[str, list[tuple[str, str]]] = {}
    for line in gzip.decompress(known.read_bytes()).decode().split("\n")[:-1]:
        entry = json.loads(line)
        rows = tables.setdefault(f"{entry['id'].rpartition('-')[0]}.csv", [])
        rows.append((entry["text"], str(int(entry["label"] == "spam"))))
    made = tmp_path / known.name
    get_comments(made, zip_of(tables, tmp_path / "tables.zip"))
    assert made.read_bytes() == known.read_bytes()


def test_messages_alone_are_taken_from_an_archive(tmp_path: Path) -> None:
    first, second = f"00001.{'a' * 32}", f"00002.{'b' * 32}"
    raw = b"Subject: caf\xe9\r\n\r\nhello\r\n"
    ham = {f"easy_ham/{first}": raw, "easy_ham/cmds": b"mv", f"../../{second}": b"Subject: b\n\n"}
    archives = {
        "easy-ham-1": tar_of(ham, tmp_path / "ham.tar.bz2"),
        "spam-1": tar_of({f"spam/{first}": b"Subject: c\n\n"}, tmp_path / "spam.tar.bz2"),
    }
    folder = tmp_path / "data" / "spamassassin"
    get_mail(folder, archives)
    names = [path.relative_to(folder).as_posix() for path in mail_paths(folder)]
    assert names == [f"easy-ham-1/{first}.txt", f"easy-ham-1/{second}.txt", f"spam-1/{first}.txt"]
    assert (folder / names[0]).read_bytes() == raw
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 2 + len(names)


def test_another_archive_than_the_known_one_leaves_nothing(tmp_path: Path) -> None:
    known = tar_of({f"spam/00001.{'a' * 32}": b"Subject: a\n\n"}, tmp_path / "spam.tar.bz2")
    other = Archive(known.url, "0" * 64)
    folder = tmp_path / "data" / "spamassassin"
    with pytest.raises(CorpusError, match="expected 0000"):
        get_mail(folder, {"spam-1": known, "spam-2": other})
    gone = Archive((tmp_path / "none").as_uri(), known.sha256)
    with pytest.raises(CorpusError, match=r"none could not be downloaded .*Try again"):
        get_mail(folder, {"spam-1": gone})
    assert list(folder.parent.iterdir()) == []


def test_an_answer_that_breaks_off_is_no_wrong_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nBZh91AY")

        thread = Thread(target=answer, daemon=True)
        thread.start()
        place = f"http://127.0.0.1:{server.getsockname()[1]}/spam.tar.bz2"
        with pytest.raises(CorpusError, match=r"downloaded \(.*993 more expected\)\)\. Try again"):
            get_mail(tmp_path / "spamassassin", {"spam-1": Archive(place, "0" * 64)})
        thread.join()


def test_what_is_there_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def get(path: Path) -> None:
        path.write_text("fetched")

    def fails(path: Path) -> None:
        raise CorpusError(f"{path.name} could not be downloaded")

    monkeypatch.setattr(get_data, "CORPORA", {"one": fails, "two": get, "three": fails})
    (tmp_path / "one").write_text("mine")
    own = sha256_of(tmp_path / "one")
    monkeypatch.setattr(get_data, "read_run", lambda _: {"data_sha256": {"one": own}})
    assert main([str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert told.err == "training.get_data: three could not be downloaded\n"
    [kept, other] = told.out.splitlines()
    assert kept == f"{tmp_path}/one is there already"
    assert other.startswith(f"{tmp_path}/two is not byte for byte what the starter has learnt from")
    assert (tmp_path / "one").read_text() == "mine"
    assert (tmp_path / "two").read_text() == "fetched"


def test_the_starter_has_learnt_from_what_the_command_lays_out() -> None:
    learnt = json.loads((Path("checkpoints/starter") / "run.json").read_text())["data_sha256"]
    assert set(get_data.CORPORA) <= set(learnt)
