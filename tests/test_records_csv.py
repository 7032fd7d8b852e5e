"""Rows of CSV as records of bulk scoring."""

import tracemalloc
from pathlib import Path

import pytest

from app import text_lines
from app.records import SourceError, open_source, read_records
from tests.conftest import HAM, SPAM, written
from tests.test_records import read


def test_line_of_csv_without_end_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 2000)
    path = written(tmp_path / "a.csv", "id,text\n1,a\n2," + "b," * 4_000_000 + "\n3,c\n")
    tracemalloc.start()
    found = list(read_records(open_source(path, None, "text"), "text"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(record.text, record.problem) for record in found] == [
        ("a", ""),
        (None, "not a row of CSV: field larger than field limit (2000)"),
        ("c", ""),
    ]
    assert peak < 1 << 20


@pytest.mark.parametrize("row", ["{0},{1}", "{1},{0}"])
@pytest.mark.parametrize("line", ["x" * 70 + "\n", 'say ""x""\n', "y" * 3000], ids=len)
def test_field_beyond_the_bound_costs_its_row_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str, line: str
) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 2000)
    long = f'"{line * 300}"'
    rows = [row.format(n, text) for n, text in [("id", "text"), (1, "a"), (2, long), (3, "b")]]
    found = read(written(tmp_path / "a.csv", "\n".join(rows)))
    assert [record.text for record in found] == ["a", None, "b"]
    assert found[1].problem.startswith("not a row of CSV: field larger")
    [*_, last] = read(written(tmp_path / "open.csv", "\n".join(rows).replace(f'{line}"', line)))
    assert last.problem == "a quote without end: all rows from here on"


def test_rows_behind_a_quote_without_end_are_told(tmp_path: Path) -> None:
    start = f'id,text\n1,"{HAM}, ""quoted"""\n2,"two\nlines"\n'
    open_end = written(tmp_path / "open.csv", start + f'3,"{HAM}\n4,{SPAM}\n')
    texts = [f'{HAM}, "quoted"', "two\nlines"]
    assert [record.text for record in read(open_end)] == [*texts, None]
    assert read(open_end)[-1].problem == "a quote without end: all rows from here on"
    for end in ('3,"last"', '3,"last"\n', "3,last", '3,"last"\n\n'):
        closed = written(tmp_path / "closed.csv", start + end)
        assert [record.text for record in read(closed)] == [*texts, "last"]


def test_table_without_names_of_columns_is_refused_without_its_text(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", f"ham,{HAM!r}\nspam,{SPAM!r}\n")
    with pytest.raises(SourceError, match="among the") as error:
        read(path)
    assert "dinner" not in str(error.value)


def test_csv_with_the_column_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="more than one column 'text'"):
        read(written(tmp_path / "a.csv", f"text,text\n{HAM!r},{SPAM!r}\n"))


def test_text_cut_by_a_comma_is_a_bad_record(tmp_path: Path) -> None:
    rows = 'label,text\nspam,You have won, call now\nham,"Sorry, later"\nham,see you,\n'
    found = read(written(tmp_path / "a.csv", rows))
    assert [record.text for record in found] == [None, "Sorry, later", "see you"]
    assert found[0].problem.startswith("more values than columns")


def test_columns_without_a_name_are_no_columns(tmp_path: Path) -> None:
    rows = "label,text,,\nspam,You have won,call now,\nham,see you,,\n"
    assert [record.text for record in read(written(tmp_path / "a.csv", rows))] == [None, "see you"]
