"""The image and the compose file, built and run by a real engine: pytest -m docker.

Where the engine cannot pull from a hub, SPAMGATE_TEST_BASE_IMAGE names an image that it has in
place of the Dockerfile's, and SPAMGATE_TEST_WHEELS a folder with a CPU build of torch in place of
PyTorch's own index.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import HAM, SPAM

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[1]
PROJECT = f"spamgate-test-{os.getpid()}"
IMAGE = f"{PROJECT}:cpu"
CPU_SERVICE, NVIDIA_SERVICE = "spamgate-cpu", "spamgate"
HARDENED = ["--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]

CLASSIFY_IN_CONTAINER = """
import sys, urllib.request
headers = {"Content-Type": "application/json"}
url, body = "http://127.0.0.1:8000/classify", sys.stdin.buffer.read()
request = urllib.request.Request(url, body, headers)
sys.stdout.buffer.write(urllib.request.urlopen(request, timeout=10).read())
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


def docker(*arguments: str, check: bool = True, **options) -> subprocess.CompletedProcess[str]:
    options = {"timeout": 60, **options}
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, **options)
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr}")
    return done


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """docker compose on this checkout; project, image and port are the test's own."""
    if not shutil.which("docker") or docker("info", check=False).returncode:
        pytest.skip("no Docker engine answers: start one, or set DOCKER_HOST to its socket")
    override = tmp_path_factory.mktemp("compose") / "override.json"
    override.write_text(json.dumps({"services": _override()}))
    files = ["-f", str(ROOT / "docker-compose.yml"), "-f", str(override)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SPAMGATE_")}
    environment["SPAMGATE_PORT"] = "0"

    def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
        options["env"] = environment | options.pop("settings", {})
        return docker(
            *("compose", "-p", PROJECT, "--env-file", os.devnull, *files, *arguments), **options
        )

    try:
        run("build", CPU_SERVICE, timeout=1800)
        yield run
    finally:
        run("--profile", "cpu", "down", "--volumes", check=False)
        docker("image", "rm", "--force", IMAGE, check=False)


def _override() -> dict[str, object]:
    build: dict[str, dict[str, str]] = {"args": {}}
    if base_image := os.environ.get("SPAMGATE_TEST_BASE_IMAGE"):
        build["args"]["BASE_IMAGE"] = base_image
    if wheels := os.environ.get("SPAMGATE_TEST_WHEELS"):
        build["args"]["TORCH_BACKEND"] = ""
        build["additional_contexts"] = {"wheels": wheels}
    return {CPU_SERVICE: {"image": IMAGE, "build": build}, NVIDIA_SERVICE: {"image": IMAGE}}


@pytest.fixture
def isolated(compose: Run) -> Iterator[str]:
    """The id of a healthy container without network, writable files or privileges."""
    container = docker("run", "--detach", *HARDENED, IMAGE).stdout.strip()
    try:
        wait_healthy(container)
        yield container
    finally:
        docker("rm", "--force", container)


def wait_healthy(container: str) -> None:
    end = time.monotonic() + 60
    status = ""
    while time.monotonic() < end:
        status = inspect(container, "{{.State.Status}}, {{.State.Health.Status}}")
        if status == "running, healthy":
            return
        if not status.startswith("running"):
            break
        time.sleep(0.2)  # the engine offers no event to wait for
    raise AssertionError(f"the container is {status}: {docker('logs', container).stderr}")


def inspect(container: str, template: str) -> str:
    return docker("inspect", "--format", template, container).stdout.strip()


def assert_both_sentences_right(reply: str) -> None:
    spam, ham = json.loads(reply)["results"]
    assert spam["probabilities"]["spam"] >= 0.9
    assert ham["probabilities"]["ham"] >= 0.9


def test_cpu_service_is_healthy_within_ten_seconds_and_answers_on_loopback(compose: Run) -> None:
    started = time.monotonic()
    compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "10", CPU_SERVICE)
    assert time.monotonic() - started <= 10
    address = compose("port", CPU_SERVICE, "8000").stdout.strip()
    assert address.startswith("127.0.0.1:")
    reply = httpx.post(f"http://{address}/classify", json={"texts": [SPAM, HAM]})
    assert_both_sentences_right(reply.text)
    compose("stop", CPU_SERVICE)
    container = compose("ps", "--all", "--quiet", CPU_SERVICE).stdout.strip()
    assert inspect(container, "{{.State.ExitCode}}") == "0"  # 137 where it had to be killed


def test_image_answers_without_network_on_a_read_only_root(isolated: str) -> None:
    body = json.dumps({"texts": [SPAM, HAM]})
    reply = docker("exec", "-i", isolated, "python", "-c", CLASSIFY_IN_CONTAINER, input=body)
    assert_both_sentences_right(reply.stdout)


def test_service_is_an_ordinary_user_without_capabilities(isolated: str) -> None:
    status = docker("exec", isolated, "cat", "/proc/1/status").stdout
    assert re.search(r"^Uid:\t10001\t10001\t10001\t10001$", status, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)


def test_stopped_container_ends_by_itself_with_code_0(isolated: str) -> None:
    docker("stop", "--time", "30", isolated)
    assert inspect(isolated, "{{.State.ExitCode}}") == "0"


def test_checkpoint_folder_of_the_host_is_served(
    compose: Run, save_tiny: Callable[..., Path]
) -> None:
    settings = {"SPAMGATE_CHECKPOINT": str(save_tiny("mine"))}
    up = ["up", "--detach", "--no-build", "--wait", CPU_SERVICE]
    compose(*up, settings=settings)
    address = compose("port", CPU_SERVICE, "8000", settings=settings).stdout.strip()
    assert httpx.get(f"http://{address}/health").json()["model"].startswith("mine@")
    touch = ["exec", CPU_SERVICE, "touch", f"/app/{settings['SPAMGATE_CHECKPOINT']}/new"]
    assert "Read-only file system" in compose(*touch, settings=settings, check=False).stderr


def test_workers_answer_whoever_has_a_key_of_the_mounted_folder(
    compose: Run, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"  # readable by all, as tmp_path is not
    secrets.mkdir()
    (secrets / "keys").write_text("exim 0123456789abcdef0123\n")
    told = ["-e", "SPAMGATE_API_KEYS_FILE=/run/spamgate/keys", "-e", "SPAMGATE_WORKERS=2"]
    settings = {"SPAMGATE_SECRETS": str(secrets)}
    container = compose("run", "--detach", *told, CPU_SERVICE, settings=settings).stdout.strip()
    try:
        wait_healthy(container)
        body = json.dumps({"texts": [SPAM, HAM]})
        ask = ["exec", "-i", container, "python", "-c"]
        refused = docker(*ask, CLASSIFY_IN_CONTAINER, input=body, check=False)
        assert "HTTP Error 401" in refused.stderr
        key = '"X-API-Key": "0123456789abcdef0123", '
        with_key = CLASSIFY_IN_CONTAINER.replace("headers = {", "headers = {" + key)
        assert_both_sentences_right(docker(*ask, with_key, input=body).stdout)
        docker("stop", "--time", "30", container)
        assert inspect(container, "{{.State.ExitCode}}") == "0"
    finally:
        docker("rm", "--force", container)


def test_feedback_outlives_its_container(compose: Run) -> None:
    file = "SPAMGATE_FEEDBACK_FILE=/var/lib/spamgate/feedback.sqlite"
    told = ["-e", "SPAMGATE_FEEDBACK_KEY=secret", "-e", file]
    tell = CLASSIFY_IN_CONTAINER.replace("/classify", "/feedback")
    tell = tell.replace("headers = {", 'headers = {"X-API-Key": "secret", ')
    body = json.dumps({"text": SPAM, "label": "spam"})
    for is_new in (True, False):
        container = compose("run", "--detach", *told, CPU_SERVICE).stdout.strip()
        try:
            wait_healthy(container)
            reply = docker("exec", "-i", container, "python", "-c", tell, input=body)
            assert json.loads(reply.stdout)["new"] is is_new
        finally:
            docker("rm", "--force", container)


def test_nvidia_service_refuses_a_machine_without_gpu(compose: Run) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine may have an NVIDIA GPU")
    up = compose("up", "--detach", "--no-build", NVIDIA_SERVICE, check=False)
    assert up.returncode != 0
    assert 'could not select device driver "nvidia"' in up.stderr
    assert not compose("ps", "--quiet", "--status", "running", NVIDIA_SERVICE).stdout


def test_image_told_to_use_an_absent_gpu_says_so_and_exits_with_2(compose: Run) -> None:
    run = docker("run", "--rm", *HARDENED, "--env=SPAMGATE_DEVICE=cuda", IMAGE, check=False)
    assert run.returncode == 2
    assert "device 'cuda' is not there" in run.stderr


def test_image_with_the_extra_can_send_traces(compose: Run) -> None:
    telemetry = {
        "SPAMGATE_TELEMETRY": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
    }
    flags = [word for name, value in telemetry.items() for word in ("--env", f"{name}={value}")]
    refused = docker("run", "--rm", *flags, IMAGE, check=False)
    assert refused.returncode == 2
    assert "SDK is not installed" in refused.stderr
    compose("build", CPU_SERVICE, timeout=1800, settings={"EXTRA": "otel"})
    container = docker("run", "--detach", *HARDENED, *flags, IMAGE).stdout.strip()
    try:
        wait_healthy(container)
    finally:
        docker("rm", "--force", container)
