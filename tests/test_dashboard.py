"""The Grafana dashboard asks only for series that the service has from its start."""

import re
from pathlib import Path

from app.metrics import Metrics

DASHBOARD = Path(__file__).parents[1] / "examples" / "grafana.json"


def test_every_series_of_the_dashboard_exists() -> None:
    asked = set(re.findall(r"spamgate_\w+", DASHBOARD.read_text(encoding="utf-8")))
    text = Metrics().render().decode()
    served = set(re.findall(r"^(spamgate_\w+)[ {]", text, re.MULTILINE))
    assert len(asked) >= 12
    assert not asked - served
