"""Corpora: files, or downloads from their publisher, to labelled examples."""

import csv
import hashlib
import io
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.gpt2 import LABELS
from model.mail import message_to_text
from training.config import CorpusError, TrainConfig
from training.download import SMS_FILE, find_sms_file
from training.furniture import FURNITURE_FILE
from training.invented import renamed
from training.text_file import read_text

_LABELS = {"ham": 0, "0": 0, "spam": 1, "1": 1}
_LONGEST_LABEL = 10
_DEAL_SEED = 5  # the same for all runs, so that their parts are different ones


@dataclass(frozen=True)
class Example:
    """A text, its label (0 ham, 1 spam) and the corpus it comes from.

    ``training_only``: for the training part, whatever is drawn; ``table_only``: not for a network.
    """

    text: str
    label: int
    source: str
    training_only: bool = False
    table_only: bool = False


@dataclass(frozen=True)
class Source:
    """A place to read texts from: ``kind`` says how, one of ``KINDS``."""

    kind: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Reads ``KIND=PATH``; of a folder of the SMS collection, the file in it.

        Raises:
            CorpusError: not of that form.
        """
        return cls._of_kind(text, KINDS)

    @classmethod
    def _of_kind(cls, text: str, kinds: Iterable[str]) -> "Source":
        kind, _, path = text.partition("=")
        if kind not in kinds or not path:
            raise CorpusError(f"{text!r} is not KIND=PATH with KIND one of {', '.join(kinds)}.")
        folder = Path(path)
        if folder.exists() and not (folder.is_file() or folder.is_dir()):
            raise CorpusError(
                f"{path} can be read but once, and is read more often: write it to a file."
            )
        return cls(kind, folder / SMS_FILE if kind == "sms" and folder.is_dir() else folder)

    @classmethod
    def labelled(cls, text: str) -> "Source":
        """Reads ``[KIND=]PATH`` of texts with labels; a bare path is the SMS collection's.

        Raises:
            CorpusError: not of that form, or a kind without labels.
        """
        if text.startswith("text="):
            raise CorpusError(f"{text!r} has no labels: KIND is one of {', '.join(CORPORA)}.")
        return cls._of_kind(text if "=" in text else f"sms={text}", CORPORA)

    @property
    def name(self) -> str:
        """``KIND=NAME``, without the folder: for a command that is written down."""
        return f"{self.kind}={self.path.name}"


def read_sms(path: Path) -> list[Example]:
    """The collection as its authors wrote it: label, TAB, text; a quotation mark is text.

    Raises:
        CorpusError: a line that is not of that form, with its number.
    """
    examples = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line:
            label, _, text = line.partition("\t")
            examples.append(_example(label, text, path, number))
    return examples


def read_sms_as_the_book(path: Path) -> list[Example]:
    """The collection as pandas reads it by default: quotation marks join two lines into others.

    5,572 rows instead of 5,574; the book's draws are positions in these. Empty rows do not count.
    """
    rows = csv.reader(io.StringIO(read_text(path), newline=""), delimiter="\t")
    try:
        return [
            _example(row[0], row[1] if len(row) > 1 else "", path, number)
            for number, row in enumerate(rows, start=1)
            if row
        ]
    except csv.Error as error:
        raise CorpusError(
            f"{path}, up to line {rows.line_num}: a quotation mark without its other. Read as the "
            "book reads it, one begins a text that goes on to the next."
        ) from error


def read_jsonl(path: Path) -> list[Example]:
    """One JSON object a line with ``label`` (ham or spam) and ``text``; gzipped if named .gz.

    U+FEFF is left out: a mark of how the texts were stored, not of what they say. So are texts that
    are empty then. Invented names under .example get an ending that mail has: a network would learn
    that such a name means spam.

    Raises:
        CorpusError: a file or a line that is not of that form.
    """
    examples = [
        _labelled(json.loads, line, "a JSON object", path, number)
        for number, line in enumerate(read_text(path).split("\n"), start=1)
        if line.strip()
    ]
    return [example for example in examples if example.text]


def read_csv(path: Path) -> list[Example]:
    """As ``read_jsonl``, of a table whose first row names the columns, in whatever case.

    Rows of blank cells do not count.
    """
    content = read_text(path)
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))  # a mail may be that long
    rows = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    form = "a row (texts with commas in quotation marks)"
    try:
        names = [name.strip().lower() for name in rows.fieldnames or ()]
        while names and not names[-1]:  # as spreadsheets leave them
            names.pop()
        rows.fieldnames = names
        if [names.count(name) for name in ("label", "text")] != [1, 1]:
            raise CorpusError(
                f"{path}, line 1: expected label,text, not {str(names)[:200]}. Commas part columns."
            )
        examples = [_labelled(dict, row, form, path, rows.line_num) for row in _filled(rows)]
    except csv.Error as error:
        raise CorpusError(f"{path}, up to line {rows.reader.line_num}: {error}.") from error
    return [example for example in examples if example.text]


def _filled(rows: Iterable[dict[Any, Any]]) -> Iterator[dict[Any, Any]]:
    """Those that are not blank; an empty one for one with values under no name."""
    for row in rows:
        nameless = "".join(row.pop(None, None) or ()).strip()
        if nameless or any(cell and cell.strip() for cell in row.values()):
            yield {} if nameless else row


def _labelled(
    read: Callable[[Any], Any], line: object, form: str, path: Path, number: int
) -> Example:
    """The example that ``read`` finds in a line, named for the file."""
    try:
        entry = read(line)
        label, text = entry["label"], entry["text"]
        if label is None or not isinstance(text, str):  # null is no text, and no word either
            raise TypeError(label)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorpusError(
            f"{path}, line {number}: expected {form} with label (ham or 0, spam or 1) and text."
        ) from error
    name = str(label).strip()
    if name.lower() not in _LABELS:
        # A long one may be a message's text, in the wrong column.
        told = repr(name) if len(name) <= _LONGEST_LABEL else f"of {len(name)} characters"
        raise CorpusError(f"{path}, line {number}: the label is {told}: write ham or 0, spam or 1.")
    text = renamed(text.replace("\ufeff", ""))
    return Example(text, _LABELS[name.lower()], path.name.partition(".")[0])


def read_training_only(paths: Sequence[str]) -> list[Example]:
    """As ``read_jsonl`` of each, for the training part alone."""
    return [replace(e, training_only=True) for path in paths for e in read_jsonl(Path(path))]


def read_mail_folder(folder: Path) -> list[Example]:
    """Raw messages in subfolders, as the SpamAssassin corpus has them, read as a mail program does.

    Those in subfolders whose name begins with ``spam`` are spam, those with ``ham`` in it ham.
    Messages without any text are left out.

    Raises:
        CorpusError: no such folder, no message in it, or a subfolder of another name.
    """
    paths = mail_paths(folder)
    if others := sum(path.is_file() for path in folder.rglob("*")) - len(paths):
        print(f"{folder}: {others:,} files are not read: no .eml or .txt, or not in ham… or spam…")
    labels = {path.parent: _label_of(path.parent) for path in paths}
    examples = [
        Example(message_to_text(path.read_bytes()).text, labels[path.parent], "mail")
        for path in paths
    ]
    return [example for example in examples if example.text]


def _label_of(folder: Path) -> int:
    name = folder.name.lower()
    if name.startswith("spam"):
        return 1
    if "ham" not in name:
        raise CorpusError(
            f"{folder} holds messages: name it ham…, or spam… if that is what they are."
        )
    return 0


def mail_paths(folder: Path) -> list[Path]:
    """The messages' files in a folder for ``read_mail_folder``, in order; hidden ones are none.

    Raises:
        CorpusError: there are none, or no such folder.
    """
    if not folder.exists():
        raise CorpusError(f"cannot read the corpus {folder}: no such file or folder.")
    messages = (p for p in folder.glob("[!.]*/[!.]*") if p.suffix.lower() in (".txt", ".eml"))
    paths = sorted(p for p in messages if p.is_file())
    if not paths:
        raise CorpusError(
            f"{folder} holds no messages: expected folders ham… and spam… of .eml or .txt files."
        )
    return paths


# How each kind of --data is read.
CORPORA: dict[str, Callable[[Path], list[Example]]] = {
    "sms": read_sms,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "mail": read_mail_folder,
}
# Besides these, text without labels: a file, or a folder of .txt files.
KINDS = (*CORPORA, "text")


@dataclass(frozen=True)
class Corpus:
    """Labelled texts, and the SHA-256 of every place they were read from."""

    examples: list[Example]
    sha256: dict[str, str]


def read_corpora(places: Sequence[str], config: TrainConfig) -> Corpus:
    """The texts of a recipe.

    Args:
        places: ``KIND=PATH`` for each of the recipe's corpora; a bare path is the SMS collection's;
            none at all downloads that.
        config: names the corpora, and the SMS collection's hash and publishers.

    Raises:
        CorpusError: other corpora than the recipe's, one that cannot be read, or two of one name.
    """
    sources = [Source.labelled(place) for place in places]
    given = sorted({source.kind for source in sources})
    if (sources or config.corpora != ("sms",)) and given != sorted(set(config.corpora)):
        raise CorpusError(
            f"this recipe is for {', '.join(config.corpora)}: give --data KIND=PATH for each; "
            f"given: {', '.join(given) or 'none'}. For others set corpora in a recipe of your own, "
            "as training/configs/base_own.toml does."
        )
    wanted: list[tuple[str, Path | None]] = [(s.kind, s.path) for s in sources]
    examples: list[Example] = []
    sha256: dict[str, str] = {}
    kinds: dict[str, str] = {}
    for kind, path in wanted or [("sms", None)]:
        if path is None or kind == "sms":
            path = find_sms_file(path, config.data_urls, config.data_sha256)
            read = read_sms_as_the_book if config.selection == "book" else read_sms
            new = read(path)
        else:
            new = CORPORA[kind](path)
        refuse_same_names(kinds, kind, new)
        examples += new
        note_hash(sha256, path)
    examples += read_training_only(config.training_only)
    examples += [replace(e, table_only=True) for e in read_training_only(config.table_only)]
    for path in map(Path, (*config.training_only, *config.table_only, *config.replay)):
        note_hash(sha256, path)
    if config.furniture:
        note_hash(sha256, FURNITURE_FILE)
    return Corpus(examples + _read_replay(config), sha256)


def refuse_same_names(kinds: dict[str, str], kind: str, examples: Sequence[Example]) -> None:
    """Refuses texts whose figures would be told under the name of another file.

    Args:
        kinds: of what was read before, by the names by which figures are told; these are added.
        kind: of these texts.
        examples: from one place.

    Raises:
        CorpusError: they are named for a file whose name is taken, or the others are.
    """
    for name in {example.source for example in examples}:
        if name in kinds and {kind, kinds[name]} & {"jsonl", "csv"}:
            raise same_name(name)
        kinds[name] = kind


def _read_replay(config: TrainConfig) -> list[Example]:
    """The part of the messages replayed that the recipe's seed reads. No run reads the few that are
    left over after equal parts.

    Raises:
        CorpusError: fewer messages than parts.
    """
    messages = read_training_only(config.replay)
    random.Random(_DEAL_SEED).shuffle(messages)
    size = len(messages) // config.replay_parts
    if messages and not size:
        raise CorpusError(
            f"replay_parts is {config.replay_parts}, and replay has {len(messages)} messages: take "
            "so many parts at most."
        )
    first = config.seed % config.replay_parts * size
    return [replace(message, source="replay") for message in messages[first : first + size]]


def note_hash(sha256: dict[str, str], path: Path) -> None:
    """Adds the hash of a file that is read, by its name.

    Raises:
        CorpusError: another file has that name.
    """
    name = path.name or path.resolve().name  # of "."
    if name in sha256:
        raise same_name(name)
    sha256[name] = sha256_of(path)


def same_name(name: str) -> CorpusError:
    return CorpusError(f"two corpora are named {name}, and figures are told by name: rename one.")


def sha256_of(path: Path) -> str:
    """Hex digest of a file, or over the names and digests of a folder's files but hidden ones."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    names = (f.relative_to(path).as_posix() for f in sorted(path.rglob("*")) if f.is_file())
    lines = (f"{sha256_of(path / n)}  {n}\n" for n in names if "/." not in f"/{n}")
    # A name that is not UTF-8 counts with its own bytes.
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _example(label: str, text: str, path: Path, number: int) -> Example:
    if label not in LABELS or not text:
        form = f"ham or spam, a TAB and a text; this line starts with {label[:20]!r}"
        raise CorpusError(f"{path}, line {number}: expected {form}.")
    return Example(text, LABELS.index(label), "sms")
