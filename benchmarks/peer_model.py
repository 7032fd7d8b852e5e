"""The model of the peers that only batch, as transformers' documentation runs it: all pad."""

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class PaddedModel:
    """Probabilities of a batch of texts, padded to the longest of them."""

    def __init__(self, folder: str, dtype: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        self.model = model.eval().to(getattr(torch, dtype))

    def classify(self, texts: list[str]) -> list[dict[str, float]]:
        inputs = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            rows = self.model(**inputs).logits.float().softmax(-1).tolist()
        return [{"ham": ham, "spam": spam} for ham, spam in rows]
