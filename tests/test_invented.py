"""Invented messages repeat no text of a corpus, of those trained on or of the foreign one."""

import re
from pathlib import Path

import pytest

from tests.conftest import SHARED_DATA
from training.corpora import read_jsonl, read_sms

ROOT = Path(__file__).parents[1]
INVENTED = sorted([*(ROOT / "training").glob("*.jsonl"), *(ROOT / "benchmarks").rglob("*.jsonl")])
# Of so many words; a legal phrase or "please do not reply to this e-mail" comes to two runs.
RUN_WORDS = 8
MOST_RUNS = 2
# Places of messages to judge by that do, as old frauds and bounces are worded: to be told, too.
REPEATING = {"today-mail": [14, 43]}
WORD = re.compile(r"[a-z0-9]{2,}|[ai]")


def runs(text: str) -> set[str]:
    words = WORD.findall(text.lower())
    return {" ".join(words[n : n + RUN_WORDS]) for n in range(len(words) - RUN_WORDS + 1)}


def letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def test_no_message_to_judge_by_is_one_to_learn_from() -> None:
    texts: dict[str, set[str]] = {"training": set(), "messages": set()}
    for path in INVENTED:
        texts[path.parent.name] |= {letters(example.text) for example in read_jsonl(path)}
    assert len(texts["training"]) > 100_000
    assert len(texts["messages"]) == 9_097
    assert not texts["training"] & texts["messages"]


@pytest.fixture(scope="module")
def taken() -> set[str]:
    """The runs of words that invented messages and texts of corpora have in common."""
    corpora = [
        *read_sms(SHARED_DATA / "sms" / "SMSSpamCollection"),
        *read_jsonl(SHARED_DATA / "youtube-spam" / "youtube-spam.jsonl.gz"),
        *read_jsonl(SHARED_DATA / "enron-spam" / "enron-spam.jsonl.gz"),
    ]
    messages = (message for path in INVENTED for message in read_jsonl(path))
    invented: set[str] = set().union(*(runs(message.text) for message in messages))
    return {run for example in corpora for run in runs(example.text) & invented}


@pytest.mark.slow
@pytest.mark.parametrize("path", INVENTED, ids=[path.stem for path in INVENTED])
def test_no_invented_message_repeats_one_of_a_corpus(path: Path, taken: set[str]) -> None:
    own = [runs(message.text) for message in read_jsonl(path)]
    repeating = [n for n, of_message in enumerate(own) if len(of_message & taken) > MOST_RUNS]
    assert repeating == REPEATING.get(path.stem, [])
