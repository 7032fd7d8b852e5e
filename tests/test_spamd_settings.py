"""Settings of the spamd protocol's listener."""

import re
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from app.spamd import SpamdSettings, main


def test_misspelled_variable_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["spamd"])
    monkeypatch.setattr("app.spamd.serve", nothing)
    for name in ("SPAMGATE_SPAMD_TIMEOUT", "SPAMGATE_SPAMD_TIMEOUT_SECONDS", "SPAMGATE_PROT"):
        monkeypatch.setenv(name, "1")
    assert main() == 0
    assert capsys.readouterr().err == (
        "spamgate: no setting reads these variables: SPAMGATE_SPAMD_TIMEOUT\n"
    )


async def nothing(settings: SpamdSettings) -> None:
    """In place of a listener."""


def test_settings_come_from_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPAMGATE_SPAMD_PORT", "1783")
    assert SpamdSettings().port == 1783


@pytest.mark.parametrize(
    "setting",
    [
        *(
            {"url": url}
            for url in ("127.0.0.1:8000", "http://", "http://a:b", "ftp://a", "http://a:99999")
            + ("http://user@a", "http://a?x=1", "http://a/b#c", "http://a..b", "http://a/é")
        ),
        *({name: "one\ntwo"} for name in ("key", "feedback_key")),
        {"max_message_bytes": 1 << 63},
        *({"timeout_seconds": seconds} for seconds in (0.0005, 3601, float("inf"))),
    ],
)
def test_setting_with_which_no_verdict_can_come_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SpamdSettings(**setting)


def test_an_address_that_cannot_be_listened_on_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["app.spamd", "--host", "no-such-host.invalid"])
    assert main() == 2
    told = capsys.readouterr().err
    assert re.fullmatch(r"spamgate: cannot listen on no-such-host\.invalid:\d+: [^\n]+\n", told)


def test_wrong_settings_end_the_start_with_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["app.spamd", "--url", "127.0.0.1:8000", "--port", "x"])
    assert main() == 2
    error = capsys.readouterr().err
    assert "(SPAMGATE_SPAMD_... or flag): port is 'x': " in error
    assert "; url is '127.0.0.1:8000': " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("url", ["http://[::1]:8000", "https://spam.example.org/gate/"])
def test_url_with_a_path_or_numbers_is_taken(url: str) -> None:
    assert SpamdSettings(url=url).url == url


def test_no_password_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["spamd"])
    monkeypatch.setenv("SPAMGATE_SPAMD_URL", "ftp://jo:hunter2@host:8000/x")
    assert main() != 0
    error = capsys.readouterr().err
    assert "ftp://(not shown)@host:8000/x" in error
    assert "hunter2" not in error
