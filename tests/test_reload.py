"""Another checkpoint while the service runs: no request fails, and what is not fit stays out."""

import asyncio
import json
import os
import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from app import reading, service
from app.errors import ReloadFailed
from app.loading import load_model
from app.main import create_app
from app.settings import Settings
from app.workers import METRICS_FOLDER, SOCKET_FD
from model import classifier
from model.classifier import Classifier
from model.windows import WindowedText, encode_windows
from tests.batching import until
from tests.conftest import HAM
from tests.fake_model import FakeModel
from tests.serving import make_settings, post, replace_model, running, serving


def test_what_loading_held_of_a_gpu_is_given_back(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch keeps it for itself, and other workers may compute on the same."""
    alive: list[list[torch.dtype]] = []
    made: weakref.WeakSet[Classifier] = weakref.WeakSet()
    pick = Classifier.trial_seconds

    def bfloat16_is_faster(self: Classifier) -> float:
        made.add(self)
        return pick(self) if self.dtype == torch.bfloat16 else 1e6

    monkeypatch.setattr(Classifier, "trial_seconds", bfloat16_is_faster)
    monkeypatch.setattr(classifier, "faster_formats", lambda device: ["bfloat16"])
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append([m.dtype for m in made]))

    async def scenario() -> None:
        app = create_app(make_settings(save_tiny(), dtype="auto"))
        async with running(app):
            await app.state.service.reload()

    asyncio.run(scenario())
    assert alive[0] == [torch.bfloat16]
    assert set(alive[1]) == {torch.bfloat16}


@pytest.mark.parametrize("is_worker", [False, True])
def test_the_same_checkpoint_keeps_its_number_format(
    save_tiny: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_worker: bool,
) -> None:
    """A trial may go either way, by what else runs; verdicts would move with it."""
    if is_worker:
        monkeypatch.setenv(SOCKET_FD, "3")
        monkeypatch.setenv(METRICS_FOLDER, str(tmp_path))
    monkeypatch.setattr(classifier, "faster_formats", lambda device: ["bfloat16"])
    settings = make_settings(save_tiny(), dtype="auto")
    other = str(save_tiny("other", seed=1))
    formats: dict[str, str] = {}

    def dtype(source: str, faster: torch.dtype) -> torch.dtype:
        def seconds(self: Classifier) -> float:
            return 1.0 if self.dtype == faster else 2.0

        monkeypatch.setattr(Classifier, "trial_seconds", seconds)
        own: dict[str, str] = {} if is_worker else formats  # another worker knows of none
        return load_model(settings, source, own).dtype

    assert dtype(settings.checkpoint, torch.bfloat16) == torch.bfloat16
    assert dtype(settings.checkpoint, torch.float32) == torch.bfloat16
    assert dtype(other, torch.float32) == torch.float32
    assert dtype(other, torch.bfloat16) == torch.float32
    assert dtype(settings.checkpoint, torch.float32) == torch.bfloat16


def test_switching_checkpoints_under_load_fails_no_request(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> None:
        admin = {"Authorization": "Bearer admin"}
        async with serving(folder, admin_key="admin", cache_bytes=0) as client:
            served: list[tuple[int, str]] = []
            stop = asyncio.Event()

            async def keep_asking(number: int) -> None:
                n = 0
                while not stop.is_set():
                    n += 1
                    reply = await client.post("/classify", json={"texts": [f"{number} {n}"]})
                    served.append((reply.status_code, reply.json()["model"]))

            askers = [asyncio.create_task(keep_asking(n)) for n in range(4)]
            new = {"checkpoint": str(other)}
            switched = await client.post("/admin/reload", json=new, headers=admin)
            assert switched.json()["model"] == Classifier.load(other, "cpu").name
            for name in ("missing", "no UTF-8: \udcff"):
                missing = json.dumps({"checkpoint": str(other / name)})
                refused = await client.post("/admin/reload", content=missing, headers=admin)
                assert (refused.status_code, refused.json()["code"]) == (409, "reload_failed")
            assert (await client.get("/health")).json()["model"] == switched.json()["model"]
            back = await client.post("/admin/rollback", headers=admin)
            assert back.json()["model"] == Classifier.load(folder, "cpu").name
            again = await client.post("/admin/reload", headers=admin)  # without a body
            assert again.json()["model"] == back.json()["model"]
            stop.set()
            await asyncio.gather(*askers)
            assert {status for status, _ in served} == {200}
            assert {name for _, name in served} == {switched.json()["model"], back.json()["model"]}

    folder, other = save_tiny("tiny"), save_tiny("other", seed=1)
    asyncio.run(scenario())


def test_a_switch_waits_for_what_is_still_being_read(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def read_slowly(*arguments: Any) -> WindowedText:
        begun.set()
        assert go_on.wait(30)
        return encode_windows(*arguments)

    async def scenario() -> None:
        async with serving(save_tiny(), admin_key="admin") as client:
            monkeypatch.setattr(reading, "encode_windows", read_slowly)
            request = post(client, "long " * 1000)  # not read in the event loop
            await asyncio.to_thread(begun.wait, 30)
            headers = {"X-API-Key": "admin"}
            switch = asyncio.create_task(client.post("/admin/reload", headers=headers))
            while (await client.get("/metrics")).text.count("model_info{") < 1:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)  # loading takes less
            assert not switch.done()
            go_on.set()
            assert (await request).status_code == 200
            assert (await switch).status_code == 200

    asyncio.run(scenario())


def test_a_model_that_was_replaced_no_longer_ends_the_process(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(folder), codes.append)
        async with running(app) as client:
            model, of_it = FakeModel(held=True), app.state.service
            replace_model(app, model)
            waiting = post(client, "waits for the old one")
            await model.until_started()
            before = of_it.engine
            reload = asyncio.create_task(of_it.reload())
            await until(lambda: of_it.engine is not before)
            before.batcher._give_up("it fails on everything")
            assert (await client.get("/readyz")).status_code == 200
            model.release_all()
            assert (await waiting).status_code == 200
            await reload
            of_it.engine.batcher._give_up("it fails on everything")
            assert (await client.get("/readyz")).json()["reason"] == "it fails on everything"

    folder, codes = save_tiny(), list[int]()
    asyncio.run(scenario())
    assert codes == [service.MODEL_FAILED]


def test_a_reload_asked_for_during_the_first_load_comes_after_it(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load, go_on = load_model, threading.Event()

    def load_slowly(settings: Settings, source: str, formats: dict[str, str]) -> Classifier:
        if source == str(first):
            assert go_on.wait(30)
        return load(settings, source, formats)

    async def scenario() -> str:
        monkeypatch.setattr(service, "load_model", load_slowly)
        of_two = service.Service(make_settings(first), lambda code: None)
        start = asyncio.create_task(of_two.load())
        await asyncio.sleep(0)
        reload = asyncio.create_task(of_two.reload(str(second)))
        await asyncio.sleep(0.3)  # what it would take, were it not for the first
        go_on.set()
        await asyncio.gather(start, reload)
        assert of_two.engine is not None
        await of_two.close()
        return of_two.engine.classifier.name

    first, second = save_tiny("tiny"), save_tiny("other", seed=1)
    assert asyncio.run(scenario()) == Classifier.load(second, "cpu").name


def test_a_checkpoint_without_a_name_is_refused(save_tiny: Callable[..., Path]) -> None:
    """Of a variable that is empty, say: the settings' checkpoint is not what was meant."""

    async def scenario() -> int:
        async with serving(folder, admin_key="admin") as client:
            admin = {"X-API-Key": "admin"}
            reply = await client.post("/admin/reload", json={"checkpoint": ""}, headers=admin)
            return reply.status_code

    folder = save_tiny()
    assert asyncio.run(scenario()) == 409


def test_a_new_checkpoint_with_wrong_golden_answers_is_not_switched_to(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> None:
        async with serving(folder, admin_key="admin") as client:
            before = (await client.get("/health")).json()["model"]
            refused = await client.post(
                "/admin/reload", json={"checkpoint": str(other)}, headers={"X-API-Key": "admin"}
            )
            assert refused.status_code == 409
            assert "golden message" in refused.json()["detail"]
            assert (await client.get("/health")).json()["model"] == before

    folder, other = save_tiny("tiny"), save_tiny("other", seed=1)
    shutil.copy(folder / "golden.json", other / "golden.json")
    asyncio.run(scenario())


def test_no_model_is_kept_to_go_back_to_where_nobody_can_ask_for_it(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(save_tiny()))
        async with running(app):
            await app.state.service.reload()
            with pytest.raises(ReloadFailed, match="no model to go back to"):
                await app.state.service.roll_back()

    asyncio.run(scenario())


def test_any_failure_of_a_reload_keeps_the_model(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_to_load(*arguments: object) -> None:
        raise KeyError("no kind that the service knows")

    async def scenario() -> None:
        async with serving(save_tiny(), admin_key="admin") as client:
            monkeypatch.setattr(service, "load_model", fail_to_load)
            monkeypatch.setattr(service, "settle_objects", lambda: freed.append(True))
            refused = await client.post("/admin/reload", headers={"X-API-Key": "admin"})
            assert (refused.status_code, refused.json()["code"]) == (409, "reload_failed")
            assert (await client.get("/health")).status_code == 200

    freed: list[bool] = []
    asyncio.run(scenario())
    assert freed == [True]  # what it had loaded would stay in a GPU's memory


def test_the_admin_door_is_shut_without_its_key(save_tiny: Callable[..., Path]) -> None:
    async def scenario(**settings: object) -> list[int]:
        async with serving(folder, **settings) as client:
            paths = ("/admin/reload", "/admin/rollback")
            replies = [await client.post(p, headers={"X-API-Key": "wrong"}) for p in paths]
            return [reply.status_code for reply in replies]

    folder = save_tiny()
    assert asyncio.run(scenario()) == [404, 404]
    assert asyncio.run(scenario(admin_key="admin")) == [401, 401]


def test_info_tells_model_and_limits(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> Any:
        async with serving(folder, max_texts=7) as client:
            return (await client.get("/info")).json()

    folder = save_tiny()
    (folder / "run.json").write_text('{"recipe": "test", "metrics": {"mcc": 0.5}}')
    info = asyncio.run(scenario())
    assert info["model"].startswith("tiny@")
    assert (info["labels"], info["max_tokens"], info["max_texts"]) == (["ham", "spam"], 1024, 7)
    assert info["run"]["metrics"] == {"mcc": 0.5}
    assert 512 <= info["max_batch_tokens"] <= 16384


def test_names_that_are_no_text_break_no_answer(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> list[httpx.Response]:
        async with serving(link) as client:
            texts = {"texts": [HAM]}
            replies = [await client.get(path) for path in ("/info", "/health", "/metrics")]
            return [*replies, await client.post("/classify", json=texts)]

    folder = save_tiny()
    (folder / "run.json").write_text(r'{"data_sha256": {"csv caf\udce9.csv": "ab"}}')
    renamed = folder.rename(os.fsdecode(os.fsencode(folder.parent) + b"/caf\xe9"))
    (link := folder.parent / "current").symlink_to(renamed)
    replies = asyncio.run(scenario())
    assert [reply.status_code for reply in replies] == [200, 200, 200, 200]
    info = replies[0].json()
    assert info["model"].startswith("caf\N{REPLACEMENT CHARACTER}@")
    assert info["run"] == {"data_sha256": {"csv caf?.csv": "ab"}}


def test_a_key_that_no_form_has_is_not_repeated(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> httpx.Response:
        async with serving(save_tiny(), admin_key="admin") as client:
            body = {"checkpoint": "x", "SECRET": 1}
            return await client.post("/admin/reload", json=body, headers={"X-API-Key": "admin"})

    reply = asyncio.run(scenario())
    assert reply.status_code == 422
    assert "body.(another key): Extra inputs are not permitted" in reply.json()["detail"]
    assert "SECRET" not in reply.text
