"""Claim: 16 callers at once get at least 3 x the tokens a second of one after another, from us and from transformers, each the text it gets alone.

smollm2-135m, greedy, in bf16 and fp32. The rival is what a plain server does: transformers' generate, one request after another;
its batch of sixteen, for which all prompts have to be there at once, stands in benchmarks/scoring.py.
In bf16 a text may differ where two tokens are all but equally likely, since sums of other shapes round otherwise; so the texts
are held against those alone in fp32.
Run: python benchmarks/growing.py [--callers 16 --most-tokens 48].
"""

from __future__ import annotations

from typing import Any

import common
from scoring import read

AIM = 3.0
PRECISIONS = (("fp32", "float32"), ("bf16", "bfloat16"))


def speed(run: dict[str, Any]) -> float:
    """Tokens a second."""
    return float(run["generated"] / run["generate_seconds"])


def main() -> None:
    """Each way in a process of its own, the table, the result."""
    o = common.options(__doc__, base="smollm2-135m", callers=16, most_tokens=48, threads=2, rounds=3)
    if o.smoke:
        vars(o).update(callers=2, most_tokens=4, rounds=1)
    precisions = PRECISIONS[:1] if o.smoke else PRECISIONS
    python, folder = common.peer_python(), common.base_folder(o.base)
    prompts = [f"{row['question']} Here is how, step by step:" for row in read("piqa", ["question"])]
    job = {"prompts": prompts[: o.callers], "most_tokens": o.most_tokens, "threads": o.threads}
    runs: dict[str, list[Any]] = {}
    for _ in range(o.rounds):
        for precision, dtype in precisions:
            mine = {"base": o.base, "precision": precision, **job}
            theirs = {"folder": folder, "dtype": dtype, "alone": True, **job}
            for name, made in (
                ("together", common.run_worker("ours_score.py", {**mine, "way": "together"})),
                ("alone", common.run_worker("ours_score.py", {**mine, "way": "alone"})),
                ("transformers", common.run_worker("peer_harness.py", theirs, python=python)),
            ):
                if "error" in made:
                    raise SystemExit(f"{name} {precision}: {made['error']}")
                print(f"{precision} {name}: {speed(made):.1f} tokens a second", flush=True)
                runs.setdefault(f"{precision} {name}", []).append(made)
    found = {name: common.spread([speed(run) for run in each]) for name, each in runs.items()}
    exact = runs["fp32 alone"][0]["texts"]
    same = {
        name: sum(a == b for a, b in zip(each[0]["texts"], exact, strict=True)) for name, each in runs.items()
    }
    ratios = {
        f"{p} {name}": found[f"{p} together"]["median"] / found[f"{p} {name}"]["median"]
        for p, _ in precisions
        for name in ("alone", "transformers")
    }
    met = {f"{name}: {AIM:.0f} x": ratio >= AIM for name, ratio in ratios.items()}
    met["fp32: every text as alone"] = same["fp32 together"] == o.callers
    told = "; ".join(
        f"{p} {found[f'{p} together']['median']:.0f} tokens a second, {ratios[f'{p} alone']:.1f} x ours one after another, "
        f"{ratios[f'{p} transformers']:.1f} x transformers' one after another"
        for p, _ in precisions
    )
    headline = (
        f"{o.callers} callers at once: {told}; the same text as alone {same['fp32 together']} of {o.callers}"
    )
    print(headline, met)
    result = {"settings": vars(o), "tokens_a_second": found, "ratios": ratios, "same_as_fp32_alone": same}
    common.write_result(
        "growing",
        (__doc__ or "").splitlines()[0],
        {**result, "met": met, "headline": headline},
        smoke=o.smoke,
    )


if __name__ == "__main__":
    main()
