"""Answers of an exported predictor in plain onnxruntime: needs numpy, tokenizers and onnxruntime, nothing of basewise.

    python answer.py < texts.txt          one JSON line a text; where several columns are read, a line is {"COLUMN": "...", ...}
    python answer.py --port 8000          POST /predict with {"rows": [{"COLUMN": "...", ...}]} or {"texts": [...]}; GET /health

`texts` are what the network reads: of several columns they are joined as basewise.json says, and `rows` spare that.

This file goes into every ONNX export as answer.py beside model.onnx, tokenizer.json and basewise.json, so that what is replayed
before an export is let out is what runs at its user's.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

CHARACTERS_PER_TOKEN = 64
MOST_BYTES = 10 * 2**20
MOST_TEXTS = 1_000
BATCH = 32


class Answers:
    """The session, the tokeniser and what is pinned, from an export's folder."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self.pins: dict[str, Any] = json.loads((folder / "basewise.json").read_text("utf-8"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.pins["most_tokens"])
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
        )

    def text_of(self, row: Any) -> str:
        """The text of a row's columns, joined as in training; ValueError for what is no such row."""
        inputs = self.pins["inputs"]
        if not isinstance(row, dict) or any(name not in row for name in inputs):
            raise ValueError(f"each row is {{{', '.join(f'{json.dumps(name)}: ...' for name in inputs)}}}")
        cells = [_cell(row[name]) for name in inputs]
        if len(inputs) == 1:
            return cells[0]
        return "\n".join(f"{name}: {cell}" for name, cell in zip(inputs, cells, strict=True))

    def probabilities(self, texts: list[str]) -> np.ndarray:
        """(n, C) float64 in the order of pins["classes"]."""
        limit = self.pins["most_tokens"] * CHARACTERS_PER_TOKEN
        out = np.empty((len(texts), len(self.pins["classes"])))
        for start in range(0, len(texts), BATCH):
            part = [t[:limit] for t in texts[start : start + BATCH]]
            rows = self.tokenizer.encode_batch(part, add_special_tokens=self.pins["special"])
            ids = [row.ids or [self.pins["filler"]] for row in rows]
            longest = max(map(len, ids))
            tokens = np.full((len(ids), longest), self.pins["pad"], np.int64)
            mask = np.zeros((len(ids), longest), np.int64)
            for i, row in enumerate(ids):
                tokens[i, : len(row)], mask[i, : len(row)] = row, 1
            out[start : start + len(part)] = self.session.run(
                None, {"input_ids": tokens, "attention_mask": mask}
            )[0]
        return out

    def __call__(self, texts: list[str]) -> list[dict[str, Any]]:
        """{"label", "probability", "abstained", "set", "probabilities"} for each text.

        `set`: the classes that hold the truth with 1 - alpha, the most probable first and always in it; None where none are known.
        """
        classes, threshold = self.pins["classes"], self.pins["threshold"]
        least = self.pins["least_probability"]
        lines = []
        for row in self.probabilities(texts) if texts else []:
            top = int(row.argmax())
            named = {name: float(p) for name, p in zip(classes, row, strict=True)}
            held = None
            if least is not None:
                order = np.argsort(-row, kind="stable")[: max(int((row >= least).sum()), 1)]
                held = [classes[c] for c in order]
            lines.append(
                {
                    "label": classes[top],
                    "probability": float(row[top]),
                    "abstained": threshold is not None and float(row[top]) < threshold,
                    "set": held,
                    "probabilities": named,
                }
            )
        return lines


def _cell(value: Any) -> str:
    """A value of a row as the text that training read: 3.0 is "3", true is "true", null is empty; ValueError for another kind."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else str(value)
    if isinstance(value, (str, int)):
        return str(value)
    raise ValueError(f"a {type(value).__name__} came where a text or a number was expected")


def handler_of(answers: Answers) -> type[BaseHTTPRequestHandler]:
    """POST /predict and GET /health; anything that is no list of texts is a 400 with the reason, and texts are never logged."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def _say(self, code: int, value: Any) -> None:
            body = json.dumps(value, ensure_ascii=False).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            known = self.path == "/health"
            self._say(
                200 if known else 404,
                {"release": answers.pins["release"]} if known else {"error": "GET /health"},
            )

        def do_POST(self) -> None:
            size = self.headers.get("Content-Length", "")
            if self.path != "/predict":
                self._say(404, {"error": "POST /predict"})
            elif not size.isdecimal() or int(size) > MOST_BYTES:
                self._say(413, {"error": f"at most {MOST_BYTES} bytes, with their length"})
            else:
                self._answer(self.rfile.read(int(size)))

        def _answer(self, body: bytes) -> None:
            try:
                asked = json.loads(body)
                rows = asked["rows"] if "rows" in asked else asked["texts"]
                if not isinstance(rows, list) or len(rows) > MOST_TEXTS:
                    raise TypeError
                texts = [answers.text_of(row) for row in rows] if "rows" in asked else rows
                # half a pair of surrogates is no text
                "".join(texts).encode()
            except UnicodeEncodeError:
                self._say(400, {"error": "half a pair of surrogates is no text"})
            except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError):
                self._say(
                    400, {"error": f'send {{"rows": [at most {MOST_TEXTS} rows]}} or {{"texts": [...]}}'}
                )
            except ValueError as error:
                self._say(400, {"error": str(error)})
            else:
                self._say(200, {"release": answers.pins["release"], "answers": answers(texts)})

        def log_message(self, format: str, *args: Any) -> None:
            return

    return Handler


class Server(ThreadingHTTPServer):
    """What has been asked is answered before it ends."""

    daemon_threads = False


def serve(answers: Answers, host: str, port: int) -> None:
    """Until SIGTERM or Ctrl-C. The first process of a container must ask for SIGTERM, else the kernel keeps it from it."""
    with Server((host, port), handler_of(answers)) as server:

        def end(*_: object) -> None:
            # an exception could close the connection of a request whose thread has just begun
            threading.Thread(target=server.shutdown).start()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        print(f"http://{host}:{server.server_port}", flush=True)
        server.serve_forever()


def main() -> None:
    """Texts on standard input, or a server."""
    parser = argparse.ArgumentParser(description="Answers of an exported predictor.")
    parser.add_argument("--port", type=int)
    parser.add_argument("--host", default="127.0.0.1")
    asked = parser.parse_args()
    answers = Answers(Path(__file__).parent)
    if asked.port is not None:
        serve(answers, asked.host, asked.port)
        return
    for stream in (sys.stdin, sys.stdout):
        # whatever the terminal's encoding; a line that is no UTF-8 costs no other
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    for line in sys.stdin:
        print(json.dumps(_of_line(answers, line.rstrip("\n")), ensure_ascii=False), flush=True)


def _of_line(answers: Answers, line: str) -> dict[str, Any]:
    """The answer to a line, or {"error"} for one that is no row of several columns."""
    if len(answers.pins["inputs"]) == 1:
        return answers([line])[0]
    try:
        return answers([answers.text_of(json.loads(line))])[0]
    except (ValueError, RecursionError) as error:
        return {"error": str(error)}


if __name__ == "__main__":
    main()
