"""Loads the model that the service answers with, by its settings, and tidies up behind it."""

import gc

import torch

from app.cores import usable_cores
from app.decision import Cutoffs
from app.settings import Settings
from model.classifier import Classifier

# Of a batch, where the settings do not say how many tokens it holds.
_BATCH_SECONDS = 0.1


def load_model(settings: Settings, checkpoint: str) -> Classifier:
    """The classifier of that folder or hub id, on the device and with the threads of the settings.

    Raises:
        CheckpointError: it cannot be used, or its cut-offs cannot.
        DeviceError: the device or the number format is not there.
    """
    cores = usable_cores()
    share = cores // settings.workers if settings.workers > 1 else cores - 1
    torch.set_num_threads(settings.threads or max(1, share))
    classifier = Classifier.load(checkpoint, settings.device, settings.dtype)
    batch_tokens = settings.max_batch_tokens or _tokens_in_a_batch(classifier)
    classifier.max_batch_tokens = batch_tokens
    if settings.spam_prior is not None:
        classifier.assume_spam_prior(settings.spam_prior)
    Cutoffs.of(classifier)  # what cannot be used is refused now, not at the first request
    return classifier


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
