"""Loads the model that the service answers with, by its settings, and tidies up behind it."""

import contextlib
import fcntl
import gc
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import torch

from app.cores import usable_cores
from app.decision import Cutoffs
from app.settings import Settings
from app.workers import METRICS_FOLDER, is_worker
from model.checkpoint import load_classifier
from model.classifier import Classifier
from model.devices import pick_device

_log = logging.getLogger("spamgate")

# Of a batch, where the settings do not say how many tokens it holds.
_BATCH_SECONDS = 0.1


def load_model(settings: Settings, source: str, formats: dict[str, str]) -> Classifier:
    """The classifier of that folder or hub id, on the device and with the threads of the settings.

    Args:
        settings: see there.
        source: folder or hub id.
        formats: the number format that ``auto`` took for each checkpoint, by its hash; what is
            missing is added.

    Raises:
        CheckpointError: it cannot be used, or its cut-offs cannot.
        DeviceError: the device or the number format is not there.
    """
    cores = usable_cores()
    share = cores // settings.workers if settings.workers > 1 else cores - 1
    torch.set_num_threads(settings.threads or max(1, share))
    device = pick_device(settings.device)
    checkpoint = load_classifier(source)
    if settings.dtype == "auto":
        with _chosen_once(formats, checkpoint.sha256):
            known = formats.get(checkpoint.sha256, "auto")
            classifier = Classifier.of(checkpoint, device, known)
            formats[checkpoint.sha256] = classifier.dtype_name
    else:
        classifier = Classifier.of(checkpoint, device, settings.dtype)
    batch_tokens = settings.max_batch_tokens or _tokens_in_a_batch(classifier)
    classifier.max_batch_tokens = batch_tokens
    if settings.spam_prior is not None:
        classifier.assume_spam_prior(settings.spam_prior)
    Cutoffs.of(classifier)  # what cannot be used is refused now, not at the first request
    # A folder that was copied in part would else be taken for a whole one.
    missing = [name for name in ("golden", "run") if not getattr(checkpoint, name)]
    if missing:
        files = [f"{name}.json" for name in missing]
        _log.warning(
            "a checkpoint without what proves it or says its cut-offs",
            extra={"model": classifier.name, "missing": files},
        )
    return classifier


@contextmanager
def _chosen_once(formats: dict[str, str], sha256: str) -> Iterator[None]:
    """Has one worker choose the format of a checkpoint while the others wait, who take the same:
    by a trial of their own, timed beside those of others, verdicts would differ between them."""
    if not is_worker():
        yield
        return
    with (Path(os.environ[METRICS_FOLDER]) / "formats.json").open("a+", encoding="utf-8") as file:
        _lock(file, fcntl.LOCK_EX)
        file.seek(0)
        formats |= json.loads(file.read() or "{}")
        if is_known := sha256 in formats:
            _lock(file, fcntl.LOCK_UN)
        yield
        if not is_known:
            file.truncate(0)  # what is written goes to the end
            json.dump(formats, file)


def _lock(file: TextIO, operation: int) -> None:
    with contextlib.suppress(OSError):  # a file system that knows no locks
        fcntl.flock(file, operation)


def settle_objects() -> None:
    """Frees what was replaced, and takes all else out of the garbage collector's rounds.

    They would go through every object of torch and FastAPI once a second under load: a tenth of
    the time, in pieces of 0.1 s for which requests wait. Torch would keep what they held of a GPU's
    memory, and the trial of number formats holds four times what the faster one needs: other
    workers may want it.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    torch.cuda.empty_cache()  # without a GPU, nothing


def _tokens_in_a_batch(classifier: Classifier) -> int:
    """Tokens of short texts that the model reads in that time, within 512 to 16384."""
    tokens = sum(len(text.token_ids) for text in classifier.trial_texts())
    tokens_a_second = tokens / classifier.trial_seconds()
    return int(min(max(tokens_a_second * _BATCH_SECONDS, 512), 16384))
