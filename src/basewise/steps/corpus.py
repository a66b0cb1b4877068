"""basewise corpus build: sources to a folder of token shards with its tokenizer and an account of what was taken and what was not.

    corpus = build(recipe, "runs/corpus")

Steps: clean (corpus_clean.py), repeats, tokenizer, tokens, shards (corpus_tokens.py), manifest (here). The folder is locked; a killed or
interrupted build goes on where it stopped and gives the same bits; `work/` is gone when it is done.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.corpus_recipe import CorpusRecipe, checked, files_of, passed_over
from basewise.core.errors import InputError
from basewise.core.files import Progress, lock, read_json, silent, write_json
from basewise.core.hashing import digest_json, sha256_file
from basewise.core.rundir import IDENTITY, RunDir
from basewise.engine.corpus import FORMAT, MANIFEST, SPLITS, VERSION, Corpus, open_corpus
from basewise.stats.scrub import Evaluation, Known
from basewise.steps import corpus_tokens
from basewise.steps.corpus_clean import BEGUN, clean_all, evaluations_of, read_unit, reader_of, units_of

MOST_ORIGINS = 1000
Json = dict[str, Any]


def build(recipe: CorpusRecipe, to: Path | str, progress: Progress = silent) -> Corpus:
    """Build a corpus, or go on with one that was begun; a finished one is opened.

    Raises InputError for sources that cannot be used and for recipes that the text does not support, RunError for a folder that
    is in use, holds another corpus, or a full disk.
    """
    checked(recipe)
    if not recipe.sources:
        raise InputError("no source was given", "name files or folders, or a recipe with [[sources]]")
    folder = Path(to)
    identity = digest_json({"recipe": recipe.to_dict(), "files": _fingerprint(recipe)})
    _forget_failed(folder)
    with RunDir.open(folder, identity):
        work = folder / "work"
        if (folder / MANIFEST).exists():
            # there where a build was killed between its last two lines
            shutil.rmtree(work, ignore_errors=True)
            return open_corpus(folder)
        begun = _begun(work)
        evaluations = evaluations_of(recipe.decontaminate)
        known = Known(np.concatenate([np.empty(0, np.uint64), *(e.grams for e in evaluations)]))
        clean_all(recipe, work, known, progress)
        repeats = corpus_tokens.find_repeats(recipe, work, progress)
        with _freed_where_too_little(folder):
            _check_enough(recipe, work, repeats)
            tokenizer = corpus_tokens.make_tokenizer(
                recipe, folder, lambda: corpus_tokens.kept_texts(recipe, work, repeats)
            )
        corpus_tokens.tokenise(recipe, folder, repeats, progress)
        shards = corpus_tokens.write_shards(recipe, folder, progress)
        accounts = [_account(source, work, shards) for source in recipe.sources]
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "begun": begun,
            "digest": digest_json(
                [shards, tokenizer["sha256"], [(s.name, s.weight) for s in recipe.sources]]
            ),
            "tokenizer": tokenizer,
            "sources": accounts,
            "totals": _totals(accounts),
            "decontaminated": _matches(recipe, work, evaluations),
            "shards": shards,
            "recipe": recipe.to_dict(),
        }
        write_json(folder / MANIFEST, manifest)
        shutil.rmtree(work)
        return open_corpus(folder)


def _fingerprint(recipe: CorpusRecipe) -> list[Any]:
    """Name, size and time of every file: a source that changed makes another corpus.

    Streams go by name alone: what they gave is compared when a build goes on. Evaluation sets are small, and a copy of one has
    another time: they go by their digest.
    """
    out: list[Any] = []
    for source in recipe.sources:
        for file in files_of((*source.paths, *source.held_out), reader_of):
            there = Path(file)
            state = there.stat() if there.is_file() else None
            out.append([file, state.st_size, state.st_mtime_ns] if state else [file])
    for file in files_of(recipe.decontaminate, reader_of):
        there = Path(file)
        out.append([file, sha256_file(there)] if there.is_file() else [file])
    return out


def _forget_failed(folder: Path) -> None:
    """A build that failed before its first unit claims no folder: its mended command may differ. RunError where one is under way."""
    if not (folder / IDENTITY).exists() or (folder / MANIFEST).exists():
        return
    with lock(folder / ".lock", wait=False):
        if not list((folder / "work" / "units").glob("*.arrow")):
            shutil.rmtree(folder / "work", ignore_errors=True)
            (folder / IDENTITY).unlink(missing_ok=True)


@contextlib.contextmanager
def _freed_where_too_little(folder: Path) -> Iterator[None]:
    """Frees the folder where the text does not support the recipe: the same command would fail again, a mended one is another run."""
    try:
        yield
    except InputError:
        shutil.rmtree(folder / "work", ignore_errors=True)
        (folder / IDENTITY).unlink(missing_ok=True)
        raise


def _begun(work: Path) -> str:
    """When this corpus was begun, the same after a resume."""
    path = work / BEGUN
    if not path.exists():
        write_json(path, {"when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds")})
    return read_json(path)["when"]


def _check_enough(recipe: CorpusRecipe, work: Path, repeats: dict[str, np.ndarray]) -> None:
    """Raise InputError for a corpus without documents, or with one where validation needs a second."""
    main = [p.name for s in recipe.sources for p in units_of(work, s.name, False)]
    stays = sum(int((repeats[name] == 0).sum()) for name in main)
    if stays == 0:
        removed: Counter[str] = Counter()
        for path in corpus_tokens.all_units(recipe, work):
            for why, counts in read_unit(path, [])[1]["removed"].items():
                removed[why] += counts["documents"]
        if not removed:
            raise InputError("the sources hold no document", "give files with text")
        told = ", ".join(f"{why} {count:,}" for why, count in removed.most_common(3))
        raise InputError(
            f"no document of the sources is left; removed by {told}",
            "set other limits under [filters], or false to switch one off",
        )
    if stays == 1 and recipe.validation and not any(source.held_out for source in recipe.sources):
        raise InputError(
            "the corpus is one document, so none can be held apart for validation",
            "give more documents, a held_out file, or validation = 0",
        )


def _account(source: Any, work: Path, shards: list[Json]) -> Json:
    """What the manifest says of one source: read, removed, scrubbed, kept, licences, origins."""
    read: Counter[str] = Counter(documents=0, bytes=0)
    scrubbed: Counter[str] = Counter()
    removed: dict[str, Counter[str]] = {}
    splits: dict[str, Json] = {split: {"documents": 0, "bytes": 0} for split in SPLITS}
    licences: dict[str, Counter[str]] = {}
    origins: Counter[str] = Counter()
    for held in (True, False):
        for path in units_of(work, source.name, held):
            counts = read_unit(path, [])[1]
            facts = read_json(work / "tokens" / f"{path.stem}.json")
            read.update(counts["read"])
            scrubbed.update(counts["scrubbed"])
            for why, what in (*counts["removed"].items(), *facts["removed"].items()):
                removed.setdefault(why, Counter()).update(what)
            for split, sums in splits.items():
                sums["documents"] += facts[split]["documents"]
                sums["bytes"] += facts[split]["bytes"]
                origins.update(facts[split]["origins"])
                for licence, what in facts[split]["licences"].items():
                    licences.setdefault(licence, Counter()).update(what)
    for split, sums in splits.items():
        sums["tokens"] = sum(s["tokens"] for s in shards if (s["source"], s["split"]) == (source.name, split))
    return {
        "name": source.name,
        "paths": list(source.paths),
        "weight": source.weight,
        "licences": {k: dict(v) for k, v in sorted(licences.items())},
        "origins": dict(origins.most_common(MOST_ORIGINS)),
        "origins_left_out": max(0, len(origins) - MOST_ORIGINS),
        "read": dict(read),
        "passed_over": passed_over((*source.paths, *source.held_out), reader_of),
        "removed": {k: dict(v) for k, v in sorted(removed.items()) if v["documents"]},
        "scrubbed": dict(sorted(scrubbed.items())),
        **splits,
    }


def _totals(sources: list[Json]) -> Json:
    """Sums over the sources."""
    out: Json = {}
    for key in ("read", "train", "validation"):
        total: Counter[str] = Counter()
        for source in sources:
            total.update(source.get(key, {}))
        out[key] = dict(total)
    removed: dict[str, Counter[str]] = {}
    for source in sources:
        for why, what in source["removed"].items():
            removed.setdefault(why, Counter()).update(what)
    return {**out, "removed": {k: dict(v) for k, v in sorted(removed.items())}}


def _matches(recipe: CorpusRecipe, work: Path, evaluations: list[Evaluation]) -> list[Json]:
    """For each evaluation set how many of its items had a match, and the longest, before the lines were taken out."""
    found = (
        [read_unit(path, [])[1]["grams"] for path in corpus_tokens.all_units(recipe, work)]
        if evaluations
        else []
    )
    seen = np.unique(np.concatenate([np.empty(0, np.uint64), *(np.array(g, np.uint64) for g in found)]))
    return [{"set": one.name, **one.matched(seen)} for one in evaluations]
