"""LitServe with dynamic batching in front of transformers, as its documentation shows it.

PEERS_PYTHON -m benchmarks.peer_litserve FOLDER PORT float32|bfloat16
"""

import sys

import litserve  # type: ignore[import-not-found]

from benchmarks.peer_model import PaddedModel


class Spam(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        self.model = PaddedModel(sys.argv[1], sys.argv[3])

    def decode_request(self, request: dict) -> str:
        text: str = request["text"]
        return text

    def predict(self, texts: list[str]) -> list[dict[str, float]]:
        return self.model.classify(texts)


if __name__ == "__main__":
    api = Spam(max_batch_size=64, batch_timeout=0.01)
    server = litserve.LitServer(api, accelerator="cpu", timeout=600)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        generate_client_file=False,
        log_level="warning",
    )
