"""BentoML with its adaptive batching in front of transformers, as its documentation shows it.

VENV/bin/bentoml serve benchmarks.peer_bentoml:Spam --host 127.0.0.1 --port PORT
    --arg folder=FOLDER --arg dtype=float32|bfloat16
"""

import bentoml  # type: ignore[import-not-found]

from benchmarks.peer_model import PaddedModel

arguments = bentoml.use_arguments()


@bentoml.service(traffic={"timeout": 600}, logging={"access": {"enabled": False}})
class Spam:
    def __init__(self) -> None:
        self.model = PaddedModel(arguments.folder, arguments.dtype)

    # It learns how long to wait for a batch. What it expects to miss max_latency_ms it drops.
    @bentoml.api(  # type: ignore[untyped-decorator]
        batchable=True, max_batch_size=64, max_latency_ms=600_000
    )
    def classify(self, texts: list[str]) -> list[dict[str, float]]:
        return self.model.classify(texts)
