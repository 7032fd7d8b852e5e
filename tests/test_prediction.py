"""What is known of a text's verdict."""

from model.prediction import Prediction


def test_divided_odds_keep_the_smaller_probability() -> None:
    """1 less the larger one would be 0."""
    sure = Prediction(ham_probability=1e-20, spam_probability=1.0, num_tokens=5)
    divided = sure.with_odds_divided(2)
    assert divided.ham_probability == 2e-20
    assert divided.spam_probability == 1.0
