"""The texts that benchmarks send: real SMS where they are, else made-up ones of the same length."""

import random
from pathlib import Path

SMS_FILE = Path(__file__).parents[2] / "shared" / "data" / "sms" / "SMSSpamCollection"

_WORDS = (
    "free call now text win prize your to the you a i and is in me my for it of have on that are "
    "at not will get can just if we be but so ok up out go do good love day time what when come "
    "know got like home later sorry still today send need want see think tell claim mobile stop"
).split()


def own_words() -> str:
    """Words behind a text that make it this run's own: one token each, so that none runs longer."""
    return " ".join(random.SystemRandom().choices(_WORDS, k=4))


def load_texts() -> tuple[list[str], str]:
    """Texts in a fixed random order, each once, and what they are."""
    rng = random.Random(0)
    if SMS_FILE.exists():
        lines = SMS_FILE.read_text(encoding="utf-8").splitlines()
        texts = list(dict.fromkeys(line.partition("\t")[2] for line in lines if "\t" in line))
        rng.shuffle(texts)
        return texts, f"SMS Spam Collection, {len(texts)} distinct texts"
    texts = [" ".join(rng.choices(_WORDS, k=rng.randint(3, 30))) for _ in range(5000)]
    return texts, "5000 made-up texts of 3 to 30 words"
