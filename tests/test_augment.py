"""Training texts as they are read anew: each change as often as asked, labels where they hold."""

import pytest
import torch

from model.tokenizer import decode, encode
from training.augment import Augmenter, draw_chaff, respace
from training.config import TrainConfig
from training.corpora import Example
from training.data import make_loader
from training.furniture import read_furniture


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make_augmenter(*texts: tuple[str, int], max_tokens: int = 1024, **chances: float) -> Augmenter:
    examples = [Example(text, label, "sms") for text, label in texts]
    return Augmenter(examples, TrainConfig(max_tokens=max_tokens, **chances))


def test_without_any_chance_a_text_stays_as_it_is() -> None:
    reading = make_augmenter(("Win a PRIZE now", 1))(0)
    assert (reading.tokens, reading.label, reading.onset) == (encode("Win a PRIZE now", 9)[0], 1, 0)


def test_token_dropout_leaves_out_about_its_share_and_never_all() -> None:
    augmenter = make_augmenter(("word " * 99, 0), ("a", 0), token_dropout=0.3)
    long = [len(augmenter(0).tokens) for _ in range(400)]
    assert sum(long) / 400 == pytest.approx(70, abs=3)
    assert min(long) < 55  # from text to text more or less
    assert max(long) > 85
    assert {tuple(augmenter(1).tokens) for _ in range(20)} == {(64,)}


def test_recasing_changes_about_its_share_of_texts_and_they_are_read_as_by_the_service() -> None:
    text = "Win a PRIZE in London"
    augmenter = make_augmenter((text, 1), recasing=0.4)
    drawn = [decode(augmenter(0).tokens) for _ in range(500)]
    assert set(drawn) == {text, "Win a prize in London", text.title()}
    assert drawn.count(text) / 500 == pytest.approx(0.6, abs=0.07)


def test_respacing_is_how_published_corpora_look() -> None:
    assert (
        respace("Call  now: 50% off!\nNow", keep_punctuation=True) == "call now : 50 % off ! \nnow"
    )
    assert respace("Call now: 50% off!", keep_punctuation=False) == "call now 50 off"
    text = "See BO, and call: 5/6 (or 7), bye."
    drawn = {decode(make_augmenter((text, 0), respacing=1.0)(0).tokens) for _ in range(20)}
    assert drawn == {"See bo, and call: 5/6 (or 7), bye.", "See bo and call 5 6 or 7 bye"}


def test_obfuscation_disguises_long_words_only() -> None:
    augmenter = make_augmenter(("Take viagra to go", 1), obfuscation=1.0)
    drawn = [decode(augmenter(0).tokens) for _ in range(200)]
    assert all(text.endswith(" to go") for text in drawn)
    disguised = {text.removesuffix(" to go").split(" ", 1)[1] for text in drawn}
    assert {"viagra", "via.gra", "viaagra", "vigara"} <= disguised
    leet = {text for text in drawn if set(text) & set("14@9!")}
    assert len(leet) > 10  # of each word others of its letters; what the service cannot read stays


def test_a_joined_text_is_spam_from_where_the_spam_begins() -> None:
    ham = ("see you at home", 0), ("ok", 0)
    augmenter = make_augmenter(("win cash", 1), *ham, joining=1.0)
    readings = [augmenter(0) for _ in range(80)]
    drawn = [decode(reading.tokens) for reading in readings]
    in_front = [text for text in drawn if text.endswith("\nwin cash")]
    behind = [text for text in drawn if text.startswith("win cash\n")]
    assert len(in_front) + len(behind) == 80
    assert min(len(in_front), len(behind)) > 20
    assert any("see you at home\nok" in text for text in drawn)
    for reading in readings:
        assert decode(reading.tokens[reading.onset :]).startswith("win cash")
        assert reading.label == 1
    loader = make_loader([([0], 1)], 1, augment=lambda index: readings[0])
    batch = next(iter(loader))
    expected = [int(place >= readings[0].onset) for place in range(len(readings[0].tokens))]
    assert batch.token_labels.tolist() == expected


def test_half_of_the_good_words_are_of_the_texts_own_corpus() -> None:
    own = Example("ok", 0, "sms")
    others = [Example("no", 0, "mail") for _ in range(99)]
    config = TrainConfig(joining=1.0, max_tokens=64)
    augmenter = Augmenter([Example("win cash", 1, "sms"), own, *others], config)
    drawn = [decode(augmenter(0).tokens) for _ in range(200)]
    assert 0.35 < sum("ok" in text for text in drawn) / 200 < 0.7
    lonely = Augmenter([Example("win cash", 1, "sms"), *others], config)
    assert all("no" in decode(lonely(0).tokens) for _ in range(20))


def test_good_words_are_few_and_many_and_fit_beside_the_text() -> None:
    ham = ("home " * 99, 0)
    augmenter = make_augmenter(("win cash", 1), ham, joining=1.0, joined_tokens=480)
    lengths = [len(augmenter(0).tokens) for _ in range(200)]
    assert min(lengths) < 20
    assert 250 < max(lengths) <= 2 + 1 + 480
    short = make_augmenter(("win cash", 1), ("home " * 99, 0), max_tokens=8, joining=1.0)
    for reading in (short(0) for _ in range(20)):
        assert len(reading.tokens) <= 8
        assert "win cash" in decode(reading.tokens[reading.onset :])
    full = make_augmenter(("win cash", 1), ("home", 0), max_tokens=2, joining=1.0)
    assert decode(full(0).tokens) == "win cash"


def test_chaff_is_spam_beside_a_spam_or_in_its_place_and_never_beside_ham() -> None:
    spam = "win cash " * 20
    augmenter = make_augmenter((spam, 1), ("see you at home", 0), chaff=1.0, joined_tokens=64)
    readings = [augmenter(0) for _ in range(200)]
    assert {(reading.label, reading.onset) for reading in readings} == {(1, 0)}
    drawn = [decode(reading.tokens) for reading in readings]
    assert all("win cash win" in text for text in drawn)
    whole = sum(spam.strip() in text for text in drawn)
    assert whole / 200 == pytest.approx(0.5, abs=0.12)
    in_front = sum(not text.startswith("win cash") for text in drawn)
    assert in_front / 200 == pytest.approx(0.3, abs=0.12)
    assert decode(augmenter(1).tokens) == "see you at home"
    short = make_augmenter((spam, 1), max_tokens=16, chaff=1.0)
    assert max(len(short(0).tokens) for _ in range(20)) == 16
    rare = make_augmenter((spam, 1), chaff=0.2)
    changed = sum(decode(rare(0).tokens) != spam for _ in range(400))
    assert changed / 400 == pytest.approx(0.2, abs=0.07)


def test_chaff_is_words_that_hardly_ever_come_twice() -> None:
    drawn = draw_chaff(200).lower().replace(",", "").replace(".", "").replace("?", "").split()
    assert 150 < len(drawn) <= 200  # some run together
    assert len(set(drawn)) > 0.95 * len(drawn)
    assert all(word.isalpha() and word.isascii() for word in drawn)


def test_furniture_stands_around_and_between_the_lines_of_both_kinds() -> None:
    text = "Dear Ann,\n" + "your order is on its way. " * 4 + "\nKind regards"
    lines = [line.strip() for line in text.split("\n")]
    augmenter = make_augmenter((text, 0), (text, 1), ("ok", 1), furniture=1.0)
    added = []
    for index in (0, 1):
        readings = [augmenter(index) for _ in range(200)]
        assert {(reading.label, reading.onset) for reading in readings} == {(index, 0)}
        drawn = [decode(reading.tokens).split("\n") for reading in readings]
        assert all(
            [line.strip() for line in one if line.strip() in lines] == lines for one in drawn
        )
        assert sum(one[0] == lines[0] for one in drawn) in range(60, 195)  # something on top
        added.append(sum(map(len, drawn)) / 200 - 3)
    assert added == [pytest.approx(3, abs=1.5)] * 2  # as much in ham as in spam
    assert max(len(decode(augmenter(2).tokens).split("\n")) for _ in range(50)) < 12
    rare = make_augmenter((text, 0), furniture=0.3)
    plain = make_augmenter((text, 0))(0).tokens
    assert sum(rare(0).tokens != plain for _ in range(400)) / 400 == pytest.approx(0.3, abs=0.07)


def test_the_list_of_furniture_is_long_and_has_all_three_places() -> None:
    furniture = read_furniture()
    assert len(set(furniture)) == len(furniture) > 1_400
    assert {place for place, _ in furniture} == {"top", "middle", "bottom"}
    assert all(text.strip() == text != "" for _, text in furniture)
    assert not any(".example" in text for _, text in furniture)


@pytest.mark.parametrize("last", [400, 999])
def test_each_part_of_a_long_text_is_in_some_window(last: int) -> None:
    """Of more tokens than are read at once, and of more characters than are tokenized for it."""
    numbers = [str(number) for number in range(100, last + 1)]
    augmenter = make_augmenter((" ".join(numbers), 0), max_tokens=64, window_tokens=16)
    read = {word for _ in range(3_000) for word in decode(augmenter(0).tokens).split()}
    assert len(read.intersection(numbers)) > 0.95 * len(numbers)
    assert read.intersection(numbers[-9:])


def test_windows_are_passages_from_anywhere_and_now_and_then_all_of_it() -> None:
    text = " ".join(str(number) for number in range(100, 1000))
    augmenter = make_augmenter((text, 0), max_tokens=64, window_tokens=16)
    readings = [augmenter(0).tokens for _ in range(300)]
    assert {len(tokens) for tokens in readings} == {16, 64}
    long = sum(len(tokens) == 64 for tokens in readings)
    assert long / 300 == pytest.approx(0.15, abs=0.06)
    starts = {int(decode(tokens).split()[0]) for tokens in readings}
    assert 100 in starts
    assert len(starts) > 50
    text = " ".join(str(number) for number in range(100, 117))
    barely = make_augmenter((text, 0), max_tokens=64, window_tokens=16)
    drawn = {decode(barely(0).tokens) for _ in range(40)}
    assert drawn == {text, text[:-4], text[3:]}  # the last token, too, is in some
