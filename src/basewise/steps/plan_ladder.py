"""plan --ladder: a scaling law from the folders of small pretraining runs, and what it foretells at a larger budget.

Each run folder's pretrain.json gives parameters, tokens and the loss on held-out documents. Runs that measured what their base is
worth downstream also give labels saved, which is fitted against the loss. Beyond 30 x the largest run nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.errors import InputError
from basewise.core.files import read_json
from basewise.core.recipe import Recipe
from basewise.stats.scaling import Law, backtest, band, bootstrap, check_ladder, check_reach, fit, labels_at

UNITS = (
    ("bits_per_byte", "bits a byte"),
    ("nats_per_token", "nats a token"),
    ("masked_nats", "nats a hidden token"),
)
RIVAL = "words"
"""What labels are saved against: the rival that is the same for every run. Factors that only say "at least" are left out."""
SEED_NOISE = 0.002
"""Standard deviation that another seed moves a loss by, relative to the loss (methods: 0.001 to 0.003)."""


def read_ladder(folders: Sequence[str | Path], flop: float) -> dict[str, Any]:
    """The law of the runs in `folders` and its prediction for `flop`, with bands, as JSON. InputError where none can be had.

    An end of the band of the best size is None where resampled runs put no bound to it. Resampled laws without a best size
    (`draws_without_size`) foretell the loss at the best size of all runs.
    """
    runs = _runs([Path(folder) for folder in folders])
    kind, unit = _shared_unit(runs)
    n, d = (np.array([run[key] for run in runs], np.float64) for key in ("parameters", "tokens"))
    loss = np.array([run["losses"][kind] for run in runs], np.float64)
    try:
        check_ladder(n, d, loss)
        times = check_reach(flop, 6.0 * n * d)
    except ValueError as error:
        raise InputError(
            str(error), "give more finished runs of `basewise pretrain`, or fewer FLOP"
        ) from None
    law = fit(n, d, loss)
    laws = bootstrap(n, d, loss, noise=SEED_NOISE * float(np.median(loss)))
    best = _best(law, laws, flop, len(runs))
    names = ("size_power", "data_power", "floor")
    bands = {k: band(getattr(law, k), np.array([getattr(one, k) for one in laws])) for k in names}
    return {
        "runs": len(runs),
        "unit": unit,
        "law": asdict(law),
        "bands": {key: (one.low, one.high) for key, one in bands.items()},
        "backtest": backtest(n, d, loss),
        "flop": flop,
        "times": times,
        "best": best,
        "draws": len(laws),
        "draws_without_size": sum(not one.tells_size for one in laws),
        "labels": _labels(runs, loss, best["loss"]),
    }


def _shared_unit(runs: list[dict[str, Any]]) -> tuple[str, str]:
    """The first of UNITS that all runs have; InputError where there is none."""
    for kind, unit in UNITS:
        if all(kind in run["losses"] for run in runs):
            return kind, unit
    raise InputError(
        "the runs do not share a kind of loss", "give runs of one objective on the same held-out documents"
    )


def _best(law: Law, laws: Sequence[Law], flop: float, runs: int) -> dict[str, Any]:
    """The best size for `flop`, its tokens and its loss, with bands over the resampled laws; InputError where the law has none."""
    size, data = law.best(flop)
    if not law.tells_size or size <= 1 or data <= 1:
        idle = "tokens" if law.data_scale <= 0 or data <= 1 else "parameters"
        raise InputError(
            f"no best size can be told: in these {runs} runs the loss does not fall with more {idle}",
            f"give more runs, some that differ in {idle} only",
        )
    bests = [one.best(flop) for one in laws]
    losses = [
        float(one.loss(*(best if one.tells_size else (size, data))))
        for one, best in zip(laws, bests, strict=True)
    ]
    at = band(float(law.loss(size, data)), np.array(losses))
    width = band(size, np.array([best[0] for best in bests]))
    return {
        "parameters": size,
        "parameters_band": (
            width.low if width.low > 1 else None,
            width.high if width.high < flop / 6.0 * (1 - 1e-9) else None,
        ),
        "tokens": data,
        "loss": at.estimate,
        "loss_band": (at.low, at.high),
    }


def _runs(folders: list[Path]) -> list[dict[str, Any]]:
    """Every finished run; InputError for one that came twice."""
    places = [folder.resolve() for folder in folders]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise InputError(f"the run {twice} came twice", "give each run once")
    return [_run(folder) for folder in folders]


def _run(folder: Path) -> dict[str, Any]:
    """Parameters, tokens, losses by kind and labels saved of one finished run."""
    path = folder / "pretrain.json"
    if not path.is_file():
        raise InputError(
            f"{folder} holds no finished pretraining run",
            "give folders that `basewise pretrain` has finished",
        )
    value = read_json(path)
    try:
        losses = {key: _overall(value["scores"][key]) for key, _ in UNITS if value["scores"].get(key)}
        recipe = read_json(folder / "recipe.json")["recipe"] if (folder / "recipe.json").is_file() else {}
        matrices = float(value["parameters"])
        # the weights that multiply every token, which a run's FLOP are counted from
        if recipe:
            matrices = (value["flop"] / value["tokens"] - Recipe(**recipe).attention_flop) / 6.0
        saved = [
            float(one["factor"])
            for one in (task.get("labels_saved", {}).get(RIVAL) for task in value.get("worth", []))
            if one and not one.get("censored") and one.get("factor")
        ]
        return {
            "parameters": matrices,
            "tokens": value["tokens"],
            "losses": losses,
            "saved": saved,
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path} is not the result of a pretraining run: {error}", "give another folder") from error  # fmt: skip


def _overall(by_source: dict[str, Any]) -> float:
    """The figure over all documents; the mean of the sources where there is none."""
    if "all" in by_source:
        return float(by_source["all"]["estimate"])
    return float(np.mean([one["estimate"] for one in by_source.values()]))


def _labels(runs: list[dict[str, Any]], loss: np.ndarray, predicted: float) -> str:
    """What the larger base would save in labels, in words, or why it is not said."""
    known = [(value, run["saved"]) for value, run in zip(loss, runs, strict=True) if run["saved"]]
    if len(known) < 3:
        return f"labels saved: not said; {len(known)} of the runs measured them downstream, three are needed"
    x = np.array([value for value, _ in known])
    y = np.array([float(np.mean(np.log(saved))) for _, saved in known])
    found = labels_at(x, y, predicted)
    if found is None:
        return "labels saved: not said; the runs' losses do not differ enough to tell how it follows them"
    return (
        f"labels saved against {RIVAL} at that loss: {np.exp(found.estimate):.2f} x [{np.exp(found.low):.2f}, {np.exp(found.high):.2f}]"
        f" (log-linear in the loss, {len(known)} runs)"
    )
