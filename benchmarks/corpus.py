"""Claim: a corpus is built at 5 MB of text a second a core or more, from files to token shards, all filters on.

Real corpora (books, textbooks, technical documents, wikitext2), decontaminated against the six classification sets. Seconds are those of the processor (user and
system, all threads), so that a busy machine does not change them much; text is what was read, in UTF-8. Beside the whole stand the steps: clean, repeats,
tokenizer, tokens, shards; and the `tokenizers` library alone on the same text, which is what tokens would cost without pieces met once.
Run: python benchmarks/corpus.py [--repeats 3]
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common

TARGET = 5e6
SETS = ("corpus_books", "corpus_textbooks", "corpus_technical", "wikitext2")


def processor_seconds(run: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """User and system seconds of this process over a call, and what it gave."""
    began = time.process_time()
    answer = run(*arguments)
    return time.process_time() - began, answer


def timed(module: Any, names: dict[str, str], seconds: dict[str, float]) -> None:
    """Let `seconds[step]` add up the processor time of `module.<name>` for each {name: step}."""
    for name, step in names.items():
        inner = getattr(module, name)

        def outer(*arguments: Any, inner: Any = inner, step: str = step) -> Any:
            spent, answer = processor_seconds(inner, *arguments)
            seconds[step] = seconds.get(step, 0.0) + spent
            return answer

        setattr(module, name, outer)


def build_once(data: Path, sets: tuple[str, ...], folder: Path, seconds: dict[str, float]) -> common.Json:
    """One build; bytes read, tokens and seconds of each step."""
    from basewise.core.corpus_recipe import CorpusRecipe, Source
    from basewise.steps.corpus import build

    sources = tuple(Source(name=name, paths=(str(data / name),)) for name in sets)
    against = tuple(str(data / name / "*.parquet") for name in common.SETS)
    seconds.clear()
    began = time.perf_counter()
    spent, corpus = processor_seconds(build, CorpusRecipe(sources=sources, decontaminate=against), folder)
    totals = corpus.manifest["totals"]
    return {
        "bytes": totals["read"]["bytes"],
        "documents": totals["read"]["documents"],
        "tokens": corpus.tokens() + corpus.tokens("validation"),
        "vocabulary": corpus.vocabulary,
        "processor_seconds": spent,
        "wall_seconds": time.perf_counter() - began,
        "bytes_per_second": totals["read"]["bytes"] / spent,
        "steps": dict(seconds),
        "removed": totals["removed"],
    }


def library_alone(data: Path, name: str, folder: Path) -> float:
    """Bytes a second of `tokenizers.encode_batch` on the first megabytes of one set, with the tokenizer of a built corpus."""
    from tokenizers import Tokenizer

    from basewise.core.documents import Columns
    from basewise.parts.readers.parquet import read

    file = sorted((data / name).glob("*.parquet"))[0]
    texts = [document.text for document, _ in zip(read(str(file), Columns()), range(100), strict=False)]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    spent, _ = processor_seconds(tokenizer.encode_batch, texts)
    return sum(len(text.encode()) for text in texts) / spent


def main() -> None:
    """Build, repeat, write benchmarks/results/corpus.json."""
    chosen = common.options(__doc__, repeats=3)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    data = common.data_folder()
    from basewise.steps import corpus, corpus_tokens

    seconds: dict[str, float] = {}
    timed(corpus, {"clean_all": "clean", "evaluations_of": "evaluation sets"}, seconds)
    names = {
        "find_repeats": "repeats",
        "make_tokenizer": "tokenizer",
        "tokenise": "tokens",
        "write_shards": "shards",
    }
    timed(corpus_tokens, names, seconds)
    sets = SETS[-1:] if chosen.smoke else SETS
    with tempfile.TemporaryDirectory(prefix="basewise-corpus-") as folder:
        times = 1 if chosen.smoke else chosen.repeats
        runs = [build_once(data, sets, Path(folder) / str(i), seconds) for i in range(times)]
        alone = library_alone(data, sets[-1] if chosen.smoke else sets[0], Path(folder) / "0")
    speed = common.spread([run["bytes_per_second"] for run in runs])
    steps = [
        [step, spent, runs[-1]["bytes"] / 1e6 / max(spent, 1e-9)] for step, spent in runs[-1]["steps"].items()
    ]
    print(common.table(steps, ["step", "processor s", "MB/s"]))
    print(
        f"end to end: {speed['median'] / 1e6:.2f} MB/s a core (least {speed['min'] / 1e6:.2f}, n = {speed['n']})"
    )
    common.write_result(
        "corpus",
        "5 MB of text a second a core, end to end",
        {
            "headline": f"{speed['median'] / 1e6:.1f} MB of text a second of processor time, all filters on (median of {speed['n']});"
            f" tokenizers' encode_batch alone {alone / 1e6:.1f}",
            "met": {"5 MB/s a core": speed["median"] >= TARGET},
            "bytes_per_second": speed,
            "library_alone_bytes_per_second": alone,
            "runs": runs,
        },
        smoke=chosen.smoke,
    )


if __name__ == "__main__":
    main()
