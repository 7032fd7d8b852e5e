"""Settings: flag before environment before default, and wrong values named."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from app import bulk
from app.settings import STARTER, Settings, SettingsError, read_settings, unread_variables
from app.spamd import SpamdSettings
from model.windows import MAX_WINDOWS


def test_defaults_are_loopback_port_8000_and_the_starter() -> None:
    settings = read_settings([])
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.checkpoint == str(STARTER)


def test_a_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPAMGATE_PORT", "9001")
    monkeypatch.setenv("SPAMGATE_MAX_TEXTS", "7")
    settings = read_settings(["--port", "9002"])
    assert (settings.port, settings.max_texts) == (9002, 7)


def test_every_wrong_value_is_named_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPAMGATE_DTYPE", "float7")
    with pytest.raises(SettingsError) as error:
        read_settings(["--port", "99999"])
    assert "port is '99999'" in str(error.value)
    assert "dtype is 'float7'" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_body_is_no_longer_than_zlib_can_inflate() -> None:
    with pytest.raises(SettingsError, match="max_body_bytes is"):
        read_settings(["--max-body-bytes", str(1 << 63)])


def test_an_unknown_flag_ends_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        read_settings(["--prot", "1"])
    assert error.value.code == 2
    assert "--prot" in capsys.readouterr().err


def test_training_measures_with_the_windows_that_the_service_reads() -> None:
    assert Settings().max_windows == MAX_WINDOWS


def test_a_reload_by_key_of_one_worker_among_several_is_refused() -> None:
    assert read_settings(["--admin-key", "a", "--workers", "1"]).admin_key
    with pytest.raises(SettingsError, match="admin_key is set and workers is 2"):
        read_settings(["--admin-key", "a", "--workers", "2"])


@pytest.mark.parametrize("kind", [Settings, SpamdSettings])
def test_an_address_of_nothing_does_not_open_the_port_to_all(
    monkeypatch: pytest.MonkeyPatch, kind: type[BaseSettings]
) -> None:
    monkeypatch.setenv(f"{kind.model_config['env_prefix']}HOST", "")
    with pytest.raises(ValidationError, match="host\n"):
        kind()


@pytest.mark.parametrize("half", [("--feedback-key", "k"), ("--feedback-file", "f")])
def test_half_of_what_feedback_needs_is_refused(half: tuple[str, str]) -> None:
    with pytest.raises(SettingsError, match="of feedback_key and feedback_file one is set"):
        read_settings([*half])


def test_no_file_of_keys_is_never_taken_for_none_being_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read_settings(["--api-keys-file", "null"]).api_keys_file == Path("null")
    monkeypatch.setenv("SPAMGATE_API_KEYS_FILE", " ")
    with pytest.raises(SettingsError, match="api_keys_file .* no file is named"):
        read_settings([])


def test_feedback_that_is_left_blank_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPAMGATE_FEEDBACK_KEY", "")
    monkeypatch.setenv("SPAMGATE_FEEDBACK_FILE", "")
    assert read_settings([]).feedback_file is None


def test_blanks_around_a_key_are_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPAMGATE_ADMIN_KEY", "top secret\n")
    monkeypatch.setenv("SPAMGATE_FEEDBACK_KEY", " \n")
    settings = read_settings([])
    assert settings.admin_key is not None
    assert settings.admin_key.get_secret_value() == "top secret"
    assert settings.feedback_key is None


def test_a_key_of_two_lines_is_refused_and_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPAMGATE_ADMIN_KEY", "se\ncret")
    with pytest.raises(SettingsError, match="a key is one line") as refused:
        read_settings([])
    assert "cret" not in str(refused.value)


def test_variables_that_no_setting_reads_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    read = ("SPAMGATE_PORT", "spamgate_host", "SPAMGATE_SPAMD_PORT", "spamgate_secrets")
    for name in ("SPAMGATE_PROT", "spamgate_hots", *read, "OTHER"):
        monkeypatch.setenv(name, "x")
    found = unread_variables()
    assert {"SPAMGATE_PROT", "spamgate_hots"} <= set(found)
    assert not {*read, "OTHER"} & set(found)


def test_the_container_with_gpus_takes_the_device_that_its_env_file_names() -> None:
    """What stands under ``environment`` wins over the file; the other has no GPU to name."""
    compose = (Path(__file__).parents[1] / "docker-compose.yml").read_text(encoding="utf-8")
    told = re.findall(r"^      SPAMGATE_DEVICE: (.+)$", compose, re.MULTILINE)
    assert told == ["${SPAMGATE_DEVICE:-cuda}", "cpu"]


def test_bulk_scoring_tells_variables_that_nothing_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPAMGATE_SPAM_PIROR", "0.1")
    assert bulk.main([str(tmp_path / "missing.txt"), "--out", str(tmp_path / "out.jsonl")]) == 2
    assert "no setting reads these: SPAMGATE_SPAM_PIROR" in capsys.readouterr().err
