"""Digests and seeds: everything that is named by its content is named here.

A seed is a function of what the job is, never of when or where it runs, so results are the same bit for bit in
this process, in workers and after a resume.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

CHUNK_BYTES = 1 << 20


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def digest_json(value: Any) -> str:
    """Hex sha256 of a JSON-able value, keys sorted, so equal values have equal digests."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def text_key(text: str) -> bytes:
    """16-byte key of one text (BLAKE2b)."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def digest_texts(texts: Sequence[str]) -> str:
    """Hex digest of texts in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text_key(text))
    return digest.hexdigest()


def seed_from(*parts: Any) -> int:
    """A 32-bit seed from the content of a job."""
    return int(digest_json([str(p) for p in parts])[:8], 16)


def generator(*parts: Any) -> np.random.Generator:
    """A numpy generator seeded from the content of a job."""
    return np.random.default_rng(seed_from(*parts))
