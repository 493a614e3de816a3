"""FastAPI and the transformers pipeline, as people write it: `python fastapi_server.py CHECKPOINT PORT`."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from scorer import fastest
from transformers import pipeline


class Question(BaseModel):
    """The body of a request."""

    text: str


def make_app(folder: str) -> FastAPI:
    """Return the application; its endpoint is no coroutine, so FastAPI runs it in a pool of threads."""
    app = FastAPI()
    classify: Any = pipeline("text-classification", model=folder, device="cpu", dtype=fastest())

    @app.post("/predict")
    def predict(question: Question) -> dict[str, Any]:
        return dict(classify(question.text, truncation=True)[0])

    return app


if __name__ == "__main__":
    uvicorn.run(make_app(sys.argv[1]), port=int(sys.argv[2]), log_level="warning", access_log=False)
