"""A container that serves offline: the ONNX form with a Dockerfile; nothing is fetched when it runs.

`docker build -t NAME DIR && docker run -p 8000:8000 NAME`, then POST /predict with {"rows": [{"COLUMN": "..."}]} or {"texts": [...]}.
The build fetches three packages; it is the only time that a network is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from basewise.core.export import Exported
from basewise.core.files import write_text
from basewise.core.registry import part

METHODS = ("probe", "prototype", "full", "lora", "scratch")
BOUND = 0.02
DOCKERFILE = """# {name} {version}: answers on port 8000, GET /health, POST /predict
FROM python:3.11-slim
LABEL org.opencontainers.image.title="{name}" \\
      org.opencontainers.image.version="{version}" \\
      org.opencontainers.image.licenses="{licence}" \\
      org.opencontainers.image.description="{classes} classes of {target}"
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY model.onnx tokenizer.json basewise.json answer.py LICENSE NOTICE ./
RUN useradd --no-create-home --uid 10001 answer
USER 10001
EXPOSE 8000
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
HEALTHCHECK CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["python", "answer.py", "--host", "0.0.0.0", "--port", "8000"]
"""


def write(exported: Exported, folder: Path) -> None:
    """What the ONNX exporter writes, pinned versions, Dockerfile and .dockerignore."""
    import importlib.metadata

    part("exporters", "onnx").write(exported, folder)
    pinned = [
        f"{name}=={importlib.metadata.version(name)}\n" for name in ("numpy", "tokenizers", "onnxruntime")
    ]
    write_text(folder / "requirements.txt", "".join(pinned))
    release = exported.release
    write_text(
        folder / "Dockerfile",
        DOCKERFILE.format(
            name=_plain(release.name),
            version=release.id[:12],
            licence=_plain(str(release.licence.get("expression", ""))),
            classes=len(release.classes),
            target=_plain(release.target),
        ),
    )
    write_text(
        folder / ".dockerignore",
        "*\n!model.onnx\n!tokenizer.json\n!basewise.json\n!answer.py\n!requirements.txt\n!LICENSE\n!NOTICE\n",
    )


def _plain(value: str) -> str:
    """For a label in double quotes: nothing in it may end them or the line."""
    return "".join(c for c in value if c.isprintable() and c not in '"\\$`')


def answers(folder: Path, texts: Sequence[str]) -> np.ndarray:
    """By the very file that the container starts, in a process of its own, over HTTP."""
    import json
    import subprocess
    import sys
    import urllib.request

    command = [sys.executable, str(folder / "answer.py"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            body = json.dumps({"texts": list(texts)}).encode()
            asked = urllib.request.Request(f"{address}/predict", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=120) as reply:
                lines = json.load(reply)["answers"]
        finally:
            process.kill()
    return np.array([list(line["probabilities"].values()) for line in lines])
