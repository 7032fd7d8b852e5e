"""Invented messages repeat no text of a corpus, of those trained on or of the foreign one."""

import re
from pathlib import Path

import pytest

from tests.conftest import SHARED_DATA
from training.corpora import read_jsonl, read_sms

TRAINING = Path(__file__).parents[1] / "training"
# Of so many words; a legal phrase or "please do not reply to this e-mail" comes to two runs.
RUN_WORDS = 8
MOST_RUNS = 2
WORD = re.compile(r"[a-z0-9]{2,}|[ai]")


def runs(text: str) -> set[str]:
    words = WORD.findall(text.lower())
    return {" ".join(words[n : n + RUN_WORDS]) for n in range(len(words) - RUN_WORDS + 1)}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in TRAINING.glob("*.jsonl")))
def test_no_invented_message_repeats_one_of_a_corpus(name: str) -> None:
    corpora = [
        *read_sms(SHARED_DATA / "sms" / "SMSSpamCollection"),
        *read_jsonl(SHARED_DATA / "youtube-spam" / "youtube-spam.jsonl.gz"),
        *read_jsonl(SHARED_DATA / "enron-spam" / "enron-spam.jsonl.gz"),
    ]
    longest = max(corpora, key=lambda example: len(example.text))  # one that does repeat
    messages = [*read_jsonl(TRAINING / name), longest]
    invented = [runs(example.text) for example in messages]
    wanted = set().union(*invented)
    taken = {run for example in corpora for run in runs(example.text) & wanted}
    repeating = [n for n, own in enumerate(invented) if len(own & taken) > MOST_RUNS]
    assert repeating == [len(messages) - 1]
