"""LitServe with dynamic batching in front of transformers, as its documentation shows it.

PEERS_PYTHON -m benchmarks.peer_litserve FOLDER PORT float32|bfloat16
"""

import sys

import litserve  # type: ignore[import-not-found]
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class Spam(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
        model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
        self.model = model.eval().to(getattr(torch, sys.argv[3]))

    def decode_request(self, request: dict) -> str:
        text: str = request["text"]
        return text

    def predict(self, texts: list[str]) -> list[list[float]]:
        inputs = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            rows: list[list[float]] = self.model(**inputs).logits.float().softmax(-1).tolist()
        return rows

    def encode_response(self, output: list[float]) -> dict:
        return {"ham": output[0], "spam": output[1]}


if __name__ == "__main__":
    api = Spam(max_batch_size=64, batch_timeout=0.01)
    server = litserve.LitServer(api, accelerator="cpu", timeout=600)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        generate_client_file=False,
        log_level="warning",
    )
