"""Claim: batches whose sizes change are computed faster when rounded to few sizes, at every size from 8 to 512 rows; kept memory takes nine of ten page faults away.

Three ways of the product's own encoder take turns, each turn in a fresh process, because what oneDNN has built and what the allocator
has learned stay in a process: "before" (sizes as they come, memory handed back), "rounded" (`room_for`), and "rounded, kept"
(`keep_memory` too, as the product runs). Each goes through batches of other texts of each size, and then over all texts at once.
Run: python benchmarks/batches.py [--turns 3 --seconds 1.5 --base minilm-l6]
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import common
import service

WAYS = {"before": (False, False), "rounded": (True, False), "rounded, kept": (True, True)}
AS_IT_RUNS = "rounded, kept"
SIZES = (1, 8, 16, 60, 128, 512)
CLAIMED = [str(size) for size in SIZES if size >= 8]


def measure(job: common.Json) -> common.Json:
    """{"rows": {size: rows a second}, "whole": rows, processor seconds and page faults of a pass over all texts}; in a fresh process."""
    from basewise.engine import lean_bert, weights
    from basewise.engine.encoder import Encoder, open_network
    from basewise.engine.features import open_tokeniser
    from basewise.engine.layers import views
    from basewise.steps.bases import pull

    rounded, kept = WAYS[job["way"]]
    if not rounded:
        lean_bert.room_for = lambda tokens: tokens
    if not kept:
        weights.keep_memory = lambda: None
    base, texts = pull(job["base"]), job["texts"]
    encoder, tokenise = Encoder(open_network(base, "bf16")), open_tokeniser(base)
    wanted = views((f"layer{base.card.layers}",), ("mean",), base.card.layers)
    rates = {}
    for size in SIZES:
        began, at = time.perf_counter(), 0
        while (spent := time.perf_counter() - began) < job["seconds"]:
            start = at % (len(texts) - size + 1)
            encoder.encode(tokenise(texts[start : start + size]), wanted)
            at += size
        rates[str(size)] = at / spent
    tokens = tokenise(texts)
    encoder.encode(tokens, wanted)
    faults, processor, began = _faults(), time.process_time(), time.perf_counter()
    encoder.encode(tokens, wanted)
    spent = time.perf_counter() - began
    whole = {
        "rows_per_second": len(texts) / spent,
        "processor_seconds": time.process_time() - processor,
        "page_faults": _faults() - faults,
    }
    return {"rows": rates, "whole": whole}


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def main() -> None:
    """Take turns, print, write the result."""
    o = common.options(__doc__, turns=3, seconds=1.5, base="minilm-l6")
    turns, seconds = (1, 0.05) if o.smoke else (o.turns, o.seconds)
    texts = service.texts_of(600 if o.smoke else 2000)
    found: dict[str, list[common.Json]] = {way: [] for way in WAYS}
    for turn in range(turns):
        for way in WAYS:
            job = {"way": way, "base": o.base, "texts": texts, "seconds": seconds}
            answer = common.run_worker("batches.py", job)
            if "error" in answer:
                raise SystemExit(f"{way} failed: {answer['error']}")
            found[way].append(answer)
            print(f"turn {turn + 1}, {way}: {answer['whole']}", flush=True)
    rates = {
        way: {size: common.spread([t["rows"][size] for t in done]) for size in map(str, SIZES)}
        for way, done in found.items()
    }
    whole = {
        way: {name: common.spread([float(t["whole"][name]) for t in done]) for name in done[0]["whole"]}
        for way, done in found.items()
    }
    lines = [
        (way, *(rates[way][s]["median"] for s in map(str, SIZES)), whole[way]["rows_per_second"]["median"])
        for way in WAYS
    ]
    print(common.table(lines, ("rows a second", *map(str, SIZES), f"{len(texts)} at once")))
    gain = {
        way: {s: rates[way][s]["median"] / rates["before"][s]["median"] for s in map(str, SIZES)}
        for way in WAYS
    }
    left = whole[AS_IT_RUNS]["page_faults"]["median"] / max(1.0, whole["rounded"]["page_faults"]["median"])
    met = {
        "rounded alone is faster at every size from 8 to 512 rows": all(
            gain["rounded"][s] > 1 for s in CLAIMED
        ),
        "rounded and kept, as the product runs, too": all(gain[AS_IT_RUNS][s] > 1 for s in CLAIMED),
        "a tenth of the page faults at most": left <= 0.1,
    }
    alone, times = ([gain[way][s] for s in CLAIMED] for way in ("rounded", AS_IT_RUNS))
    faults = whole["rounded"]["page_faults"]["median"]
    headline = (
        f"{o.base}, batches that change: {min(times):.2f} to {max(times):.2f} x the rows a second when sizes are rounded and memory is kept"
        f" (8 to 512 rows; rounded alone {min(alone):.2f} to {max(alone):.2f}); {faults:,.0f} page faults in a pass over {len(texts):,} texts, {left:.1%} of them where memory is kept"
    )
    result = {
        "headline": headline,
        "settings": vars(o),
        "rates": rates,
        "whole": whole,
        "gain": gain,
        "met": met,
    }
    print(f"{headline}\n{met}")
    common.write_result("batches", (__doc__ or "").splitlines()[0], result, smoke=o.smoke)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1].endswith(".json"):
        job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        Path(sys.argv[2]).write_text(json.dumps(measure(job)), encoding="utf-8")
    else:
        main()
