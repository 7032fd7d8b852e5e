"""Settings of the service: every SPAMGATE_ variable and the flag of the same name.

Knows nothing of HTTP or of the model; a wrong value is refused before anything is loaded.
"""

import importlib.util
import os
import re
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict

STARTER = Path(__file__).parents[1] / "checkpoints" / "starter"

_PREFIX = "SPAMGATE_"
# What stands before the host of a URL.
_USER_AND_PASSWORD = re.compile(r"(?<=//)[^\s/]*@")
# Of the listener (app.spamd), of worker processes (app.workers) and of docker-compose.yml.
_NOT_OF_SETTINGS = ("SPAMGATE_SPAMD_", "SPAMGATE_WORKER_", "SPAMGATE_SECRETS")


def _without_blanks(key: object) -> object:
    """A key as a request can bring it: what was read from a file may end with a line."""
    if not isinstance(key, str):
        return key
    if len(key.strip().splitlines()) > 1:
        raise ValueError("a key is one line")
    return key.strip() or None


def _named(path: object) -> object:
    if isinstance(path, str) and not path.strip():  # where keys were asked for, not without
        raise ValueError("no file is named: name one, or leave it out")
    return path


def _unless_blank(path: object) -> object:
    return None if isinstance(path, str) and not path.strip() else path


Key = Annotated[SecretStr | None, BeforeValidator(_without_blanks)]
"""A key; None where there is none, or nothing but blanks."""


NONE = "\0"
"""What says None among flags. No argument holds it: "null" is a name like any other."""

Kind = TypeVar("Kind", bound=BaseSettings)


class _Help(RawDescriptionHelpFormatter):
    def format_help(self) -> str:
        return super().format_help().replace(NONE, "unset")


def from_flags(kind: type[Kind], arguments: list[str]) -> Kind:
    """Settings of this kind from flags, then the environment, then the defaults.

    Raises:
        ValidationError: a value that is not allowed.
        SystemExit: with code 0 after ``--help``, with code 2 for a flag that does not exist.
    """
    flags: CliSettingsSource[Any] = CliSettingsSource(
        kind, cli_parse_args=arguments, formatter_class=_Help
    )
    return kind(_cli_settings_source=flags)


class SettingsError(ValueError):
    """A variable or flag with a value that is not allowed; the message names each of them."""


class Settings(BaseSettings):
    """Serve ham and spam probabilities over HTTP.

    Each setting is a flag, or the environment variable SPAMGATE_ and its name; the flag wins.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        cli_kebab_case=True,
        cli_prog_name="python -m app",
        cli_hide_none_type=True,
        cli_parse_none_str=NONE,
        extra="ignore",
        frozen=True,
    )

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="address to listen on; 0.0.0.0 lets other machines in, set access keys then",
    )
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 takes any free one")
    checkpoint: str = Field(
        str(STARTER), min_length=1, description="folder of the classifier, or its id on a model hub"
    )
    device: str = Field(
        "auto", description="auto (CUDA where there is one, else the CPU), cpu, cuda or cuda:N"
    )
    dtype: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto",
        description="number format of the model; auto takes the one that is fastest here and "
        "keeps the checkpoint's golden answers",
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="CPU threads of each worker's model; 0 divides the cores, and leaves one for "
        "HTTP where there is one worker",
    )
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="processes behind the port, each with a model, a queue and a cache of its own; "
        "for many cores, or a GPU that one does not fill",
    )
    max_texts: int = Field(1024, ge=1, le=100_000, description="most texts in one request")
    max_body_bytes: int = Field(
        8 << 20,
        ge=1024,
        le=1 << 40,
        description="largest request body, after decompression; a larger one is answered 413, but "
        "a raw message is read up to there",
    )
    max_pending_texts: int = Field(
        4096,
        ge=1,
        description="most texts accepted and not yet answered; beyond that 429, for lists at 7/8 "
        "of it",
    )
    max_pending_bytes: int = Field(
        256 << 20,
        ge=1024,
        description="most bytes of bodies that are read and not yet answered, as they came and "
        "decompressed, 96 more for each JSON value; beyond that 429; the first 64 KiB of each do "
        "not count, and two of the largest body have room in any case",
    )
    max_queue_tokens: int = Field(
        262_144,
        ge=1024,
        description="most tokens that wait for the model; beyond that 429, for lists at 7/8 of it",
    )
    max_batch_tokens: int = Field(
        0,
        ge=0,
        description="tokens in one forward pass; 0 takes what the device computes in about 0.1 s",
    )
    max_windows: int = Field(
        8,
        ge=1,
        le=256,
        description="windows read of a text longer than the model reads at once, half a window "
        "apart or, where they are too few, evenly spread; each costs time, 1 leaves all but the "
        "beginning unread",
    )
    spam_prior: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of spam in what is classified here, where it is not that of the "
        "validation texts; probabilities are shifted to it, cut-offs along with them",
    )
    score_weight: float = Field(
        5.0, gt=0, le=1000, description="mail filters get the score weight * (2 * P(spam) - 1)"
    )
    timeout_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="time for a verdict where the request does not say X-Timeout-Ms; then 504",
    )
    cache_bytes: int = Field(
        16 << 20, ge=0, description="memory for verdicts on texts seen before; 0 switches it off"
    )
    drain_seconds: float = Field(
        20.0, ge=0, le=3600, description="time for accepted requests to finish after SIGTERM"
    )
    stall_seconds: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="a forward pass that takes this long beyond ten times what is expected has "
        "hung and is given up",
    )
    api_keys_file: Annotated[Path | None, BeforeValidator(_named)] = Field(
        None,
        description="file of access keys, one `name key` a line; SIGHUP reads it anew; "
        "without it all may ask",
    )
    admin_key: Key = Field(
        None, description="key of POST /admin/reload and /admin/rollback; without it they are off"
    )
    feedback_key: Key = Field(
        None, description="key of POST /feedback; without it and feedback_file it is off"
    )
    feedback_file: Annotated[Path | None, BeforeValidator(_unless_blank)] = Field(
        None, description="SQLite file that takes the labels of POST /feedback"
    )
    feedback_bytes: int = Field(
        256 << 20, ge=65_536, description="largest size of that file; then 507"
    )
    telemetry: bool = Field(
        False,
        description="send traces and metrics by OpenTelemetry to OTEL_EXPORTER_OTLP_ENDPOINT; "
        "needs the extra otel",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level that is logged; each request is one line of info"
    )


def read_settings(arguments: list[str]) -> Settings:
    """Settings from command-line arguments, then the environment, then the defaults.

    Raises:
        SettingsError: a value that is not allowed.
        SystemExit: with code 0 after ``--help``, with code 2 for a flag that does not exist.
    """
    try:
        settings = from_flags(Settings, arguments)
    except ValidationError as error:
        raise wrong_settings(error, _PREFIX) from error
    if settings.workers > 1 and settings.admin_key:
        raise SettingsError(
            f"wrong settings: admin_key is set and workers is {settings.workers}. A request would "
            "reach one worker alone: leave the key out, and send SIGHUP to reload all."
        )
    if (settings.feedback_key is None) != (settings.feedback_file is None):
        raise SettingsError(
            "wrong settings: of feedback_key and feedback_file one is set and one is not, and POST "
            "/feedback needs both. Set the other, too, or neither."
        )
    if settings.telemetry:
        _check_telemetry()
    return settings


def unread_variables(settings: type[BaseSettings] = Settings) -> list[str]:
    """Variables with the prefix of these settings that none of them reads: a name misspelled, and
    a default in its place."""
    prefix = settings.model_config["env_prefix"]
    known = {prefix + name.upper() for name in settings.model_fields}
    others = tuple(other for other in _NOT_OF_SETTINGS if other != prefix)
    return sorted(
        name
        for name in os.environ
        if name.upper().startswith(prefix)
        and name.upper() not in known
        and not name.upper().startswith(others)
    )


def wrong_settings(error: ValidationError, env_prefix: str) -> SettingsError:
    """The same in one line, which names each wrong value, but no key and no password, and how it
    can be told."""
    problems = []
    for problem in error.errors():
        name = ".".join(map(str, problem["loc"]))
        shown = _USER_AND_PASSWORD.sub("(not shown)@", repr(problem["input"]))
        value = "(not shown)" if name.endswith("key") else shown
        problems.append(f"{name} is {value}: {problem['msg']}")
    return SettingsError(f"wrong settings ({env_prefix}... or flag): {'; '.join(problems)}.")


# All of telemetry, or one kind of it.
_TOLD_OF = ("", "TRACES_", "METRICS_")


def _check_telemetry() -> None:
    if importlib.util.find_spec("opentelemetry.sdk") is None:
        raise SettingsError(
            "wrong settings: telemetry is on, and OpenTelemetry's SDK is not installed. Run "
            "`.venv/bin/python -m pip install -c constraints.txt -e '.[serve,otel]'` or, for an "
            "image, `EXTRA=otel docker compose build spamgate` (or `spamgate-cpu`)."
        )
    named = (os.environ.get(f"OTEL_EXPORTER_OTLP_{of}ENDPOINT") for of in _TOLD_OF)
    endpoints = [url for url in named if url]
    for what in ("TRACES", "METRICS"):
        exporter = os.environ.get(f"OTEL_{what}_EXPORTER") or "otlp"
        general = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{what}_PROTOCOL") or general
        if exporter not in ("otlp", "none") or protocol not in (None, "", "http/protobuf"):
            raise SettingsError(
                f"wrong settings: telemetry is on, and OTEL_{what}_EXPORTER is {exporter!r}, the "
                f"protocol {protocol!r}: otlp and http/protobuf are what is sent. Set these, or "
                "leave both out."
            )
    if not endpoints or not all(map(_names_a_host, endpoints)):
        raise SettingsError(
            "wrong settings: telemetry is on, and OTEL_EXPORTER_OTLP_ENDPOINT does not say where "
            "to send it. Set it to the collector's URL, http://127.0.0.1:4318 for one here."
        )


def _names_a_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # half an IPv6 address
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
