"""Personal and verbatim text in the predictor's files, whole or in pieces.

Every string of these files is read. Pieces count too: a vocabulary that holds half a phone number tells it. Where a subject can
generate, it is asked to go on from the rows it learned, and for canaries whose like it never saw (exposure, Carlini et al. 2019). Of
releases these are `prompt` predictors: their weights never saw a row, so they are asked for the rows that the prompt shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import Base
from basewise.core.gate import FAIL, PASS, WARN, CheckResult, Json, Subject, count, fact, interval, worst
from basewise.core.hashing import generator
from basewise.core.personal import find_personal, personal_rows
from basewise.stats.intervals import wilson

THRESHOLDS: dict[str, tuple[Any, str]] = {
    "pieces": (0, "pieces of personal data that may be in the files"),
    "verbatim_words": (8, "words in a row from a training text that count as that text"),
    "extraction": (
        0.01,
        "share of rows that may be given back by heart (of models that write)",
    ),
    "exposure": (10.0, "bits of exposure of a canary, at most (of models that write)"),
}
TEXT_FILES = (".json", ".txt", ".md", ".toml", ".jinja", ".model")
PIECE = re.compile(r"\w+")
PREFIX_WORDS, GIVEN_WORDS = 12, 12
ASKED_ROWS = 100
LEAST_SHOWN = 6
"""Words of a shown row from which on its second half is asked for, and by which it is found among what is shown."""
LEAST_IDS = 8
"""Fewer token ids in a row say nothing of anyone."""


def check(subject: Subject, limits: dict[str, Any]) -> CheckResult:
    """What the files hold, then what the model gives away when it can write."""
    evidence: list[Json] = []
    said = [*_files(subject, limits, evidence), *_rows(subject, evidence)]
    if subject.generate is not None:
        said += _extraction(subject, limits["extraction"], evidence)
    if subject.score is not None:
        said += _canaries(subject, limits["exposure"], evidence)
    verdict = worst([v for v, _ in said])
    return CheckResult(
        check="privacy",
        verdict=verdict,
        sentence="; ".join(t for _, t in said) or "no personal data and no row of the table is in the files",
        evidence=tuple(evidence),
        advice="take the personal data out of the table, or choose a method that keeps no words (probe)"
        if verdict == FAIL
        else "",
    )


def strings_of(path: Path) -> Iterator[str]:
    """Every string of a text or JSON file, keys too."""
    text = path.read_text("utf-8", errors="replace")
    if path.suffix != ".json":
        yield text
        return
    stack = [json.loads(text)]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            stack += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            stack += value


def tokens_of(path: Path, base: Base | None) -> Iterator[str]:
    """Texts that lie in a weights file as token ids, such as the rows that a prompt shows."""
    from safetensors import SafetensorError, safe_open

    if base is None:
        return
    from basewise.engine.weights import load_tokenizer

    try:
        with safe_open(path, framework="np") as file:
            found = [
                file.get_tensor(name)
                for name in sorted(file.keys())
                if file.get_slice(name).get_dtype() in ("I64", "I32")
            ]
    except (SafetensorError, OSError):
        # the check of the weights tells of it
        return
    for ids in found:
        if ids.ndim == 1 and len(ids) >= LEAST_IDS and ids.min() >= 0:
            yield load_tokenizer(base).decode([int(i) for i in ids])


def _files(subject: Subject, limits: dict[str, Any], evidence: list[Json]) -> list[tuple[str, str]]:
    texts = subject.task.train.texts if subject.task is not None else ()
    pieces, shingles = _pieces(texts), _shingles(texts, limits["verbatim_words"])
    whole: list[str] = []
    found: set[str] = set()
    verbatim = 0
    places: set[str] = set()
    readable = (*TEXT_FILES, ".safetensors")
    for path in sorted(p for p in subject.files.rglob("*") if p.suffix in readable and p.is_file()):
        if path.name == "tokenizer.json" or "base" in path.relative_to(subject.files).parts[:-1]:
            # the vocabulary of a base is public and older than the rows
            continue
        said = tokens_of(path, subject.base) if path.suffix == ".safetensors" else strings_of(path)
        for string in said:
            kinds = [kind for kind, _, _ in find_personal(string)]
            tokens = PIECE.findall(string.lower())
            hit = pieces & set(tokens)
            copied = any(
                " ".join(tokens[i : i + limits["verbatim_words"]]) in shingles for i in range(len(tokens))
            )
            whole += kinds
            found |= hit
            verbatim += copied
            if kinds or hit or copied:
                places.add(path.relative_to(subject.files).as_posix())
    evidence += [
        fact("personal data in the files", len(whole)),
        fact("pieces of personal data in the files", len(found)),
        fact("texts of the table in the files", verbatim),
    ]
    faults = []
    if whole or len(found) > limits["pieces"]:
        faults.append(
            (
                FAIL,
                f"{count(len(whole), 'piece')} of personal data whole and {len(found)} in part are in {', '.join(sorted(places))}",
            )
        )
    if verbatim:
        faults.append(
            (
                FAIL,
                f"{count(verbatim, 'string')} of {', '.join(sorted(places))} {'repeats' if verbatim == 1 else 'repeat'} texts of the table",
            )
        )
    return faults


def _pieces(texts: Any) -> set[str]:
    """Tokens that stand only in personal data: digits of four and more, and the name before the @."""
    inside: set[str] = set()
    for text in texts:
        for kind, start, end in find_personal(text):
            inside |= _telling(kind, text[start:end])
    # a token that people use elsewhere tells nothing
    for text in texts if inside else ():
        inside -= _elsewhere(text, inside)
    return inside


def _telling(kind: str, personal: str) -> set[str]:
    """The tokens of one piece of personal data that may tell whose it is."""
    if kind == "email":
        return {token for token in PIECE.findall(personal.lower().partition("@")[0]) if len(token) >= 4}
    return {token for token in PIECE.findall(personal) if len(token) >= 4 and token.isdigit()}


def _elsewhere(text: str, tokens: set[str]) -> set[str]:
    """Those of the tokens that a text also has outside of its personal data."""
    found = [match for match in PIECE.finditer(text.lower()) if match.group() in tokens]
    spans = [(start, end) for _, start, end in find_personal(text)] if found else []
    return {m.group() for m in found if not any(start <= m.start() < end for start, end in spans)}


def _shingles(texts: Any, words: int) -> set[str]:
    out: set[str] = set()
    for text in texts:
        tokens = PIECE.findall(text.lower())
        out.update(" ".join(tokens[i : i + words]) for i in range(len(tokens) - words + 1))
    return out


def _rows(subject: Subject, evidence: list[Json]) -> list[tuple[str, str]]:
    """Personal data among the train rows: no fault of the release, but who releases it should know."""
    if subject.task is None:
        return [(WARN, "the rows are not here, so nothing could be compared with the files")]
    train = subject.task.train
    rows = personal_rows(train.texts)
    for kind, places in rows.items():
        share = wilson(len(places), len(train))
        evidence.append(
            interval(
                f"train rows with {kind}", share, {"rows": [int(train.row_ids[i]) for i in places[:200]]}
            )
        )
    said = ", ".join(f"{kind} in {len(places)}" for kind, places in rows.items())
    return [(WARN, f"it learned from rows with personal data: {said} of {len(train)}")] if rows else []


def _asked(subject: Subject) -> list[str]:
    """The train rows that may be given back: all, or those of which the beginning is shown."""
    texts = list(subject.task.train.texts) if subject.task is not None else []
    if subject.shown is None:
        return texts
    shown = "\n".join(" ".join(PIECE.findall(text.lower())) for text in subject.shown)
    begun = [PIECE.findall(text.lower())[:LEAST_SHOWN] for text in texts]
    return [t for t, words in zip(texts, begun, strict=True) if words and " ".join(words) in shown]


def _extraction(subject: Subject, most: float, evidence: list[Json]) -> list[tuple[str, str]]:
    """Rows that are given back word for word from their beginning (greedy)."""
    assert subject.generate is not None
    texts = [t.split() for t in _asked(subject)]
    if subject.shown is not None and not texts:
        return []
    least = PREFIX_WORDS + GIVEN_WORDS if subject.shown is None else LEAST_SHOWN
    long = [t for t in texts if len(t) >= least][:ASKED_ROWS]
    if not long:
        return [(WARN, "no row is long enough to ask for its second half")]
    begun = [min(PREFIX_WORDS, len(t) // 2) for t in long]
    given = subject.generate([" ".join(t[:k]) for t, k in zip(long, begun, strict=True)], 3 * GIVEN_WORDS)
    hits = sum(
        " ".join(t[k : k + GIVEN_WORDS]).lower() in " ".join(g.split()).lower()
        for t, k, g in zip(long, begun, given, strict=True)
    )
    share = wilson(hits, len(long))
    evidence.append(interval("rows given back by heart", share))
    return [(FAIL if share.estimate > most else PASS, f"{hits} of {len(long)} rows are given back by heart")]


def _canaries(subject: Subject, most: float, evidence: list[Json]) -> list[tuple[str, str]]:
    """Exposure of the personal data in the rows: how high it ranks among 1,023 random ones of its form, in bits."""
    assert subject.score is not None
    texts = _asked(subject)
    secrets = [
        (t[:s], t[s:e])
        for t in texts
        for kind, s, e in find_personal(t)
        if kind in ("phone", "card", "iban") and s > 10
    ][:20]
    if not secrets:
        return []
    bits = []
    for context, secret in secrets:
        draw = generator("canary", secret)
        others = ["".join(str(draw.integers(10)) if c.isdigit() else c for c in secret) for _ in range(1_023)]
        scores = np.asarray(subject.score(context, [secret, *others]))
        bits.append(np.log2(1_024) - np.log2(1 + int((scores[1:] > scores[0]).sum())))
    worst = float(max(bits))
    evidence.append(fact("largest exposure in bits", worst))
    return [
        (
            FAIL if worst >= most else PASS,
            f"personal data is exposed by up to {worst:.1f} bits, {len(secrets)} tried",
        )
    ]
