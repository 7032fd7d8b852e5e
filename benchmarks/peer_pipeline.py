"""The peer most people write first: FastAPI in front of a transformers pipeline.

PEERS_PYTHON -m benchmarks.peer_pipeline FOLDER PORT
"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

app = FastAPI()


class Body(BaseModel):
    texts: list[str]


@app.post("/classify")
def classify(body: Body) -> list[dict]:
    answers: list[dict] = app.state.classify(body.texts, truncation=True, batch_size=32)
    return answers


@app.get("/health")
def health() -> str:
    return "ok"


if __name__ == "__main__":
    app.state.classify = pipeline("text-classification", sys.argv[1], device="cpu")
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
