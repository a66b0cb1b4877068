"""The rival of the service: FastAPI and a transformers pipeline, as its tutorials write it. Run: peer_serve.py FOLDER PORT [COPIES]."""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline


class Request(BaseModel):
    """At the top of the file, where FastAPI finds it; inside a function it would be taken for a query and every request refused."""

    text: str


def main() -> None:
    """One route a copy of the pipeline; a text in, its class out."""
    folder, port, copies = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    app = FastAPI()
    pipes = [pipeline("text-classification", model=folder, truncation=True) for _ in range(copies)]

    @app.get("/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/predict/{number}")
    def predict(number: int, request: Request) -> list[dict[str, object]]:
        return pipes[number](request.text)

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main()
