"""Decision: the answer of `choose`, as one JSON file; the report, the terminal and the web pages only read it.

All scores are shares in 0..1, all times seconds, all sizes bytes. An interval is {"estimate", "low", "high", "n"}.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from basewise.core.errors import RunError
from basewise.core.files import read_json, write_json

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True, repr=False)
class Decision:
    """What was chosen and all that is needed to defend it. Printed, it is its sentence and the leaderboard.

    verdict           "winner" | "tie" | "no base helps" | "unfinished" | "unproven" (too few labels to compare on)
    sentence          the decision in one plain sentence
    metric            key of parts/metrics that the arms were chosen by; "score" is it everywhere, a share
    chosen            trial name of what was saved as the predictor; `tied`: names it cannot be told apart from
    winner            {"naive", "estimate", "low", "high", "n", "optimism", "probability_best"}: the validation score of the
                      leader, corrected for having been picked
    leaderboard       best first, one entry a trial: {"name", "method", "base", "status", "why", "score": interval | null, "seeds",
                      "seed_spread", "metrics": {key: interval}, "probability_best", "difference": {estimate, low, high, p_holm} to the
                      chosen one (positive: chosen is better) | null, "seconds", "predicted_seconds", "memory_bytes",
                      "predicted_memory_bytes", "milliseconds_per_row", "size_bytes", "licence", "n_train", "choices": {...}}
    test              {"n", "groups": of rows that belong together, "worth": as how many independent rows n count in the difference to
                      "against", "looks" at these rows, "looks_elsewhere": those of them by other runs, "digest",
                      "smallest_gap": shown in 4 of 5 such tests, null where no gap is, "against": best control,
                      "discordance": share of rows that one of the two gets right and the other wrong (these two are missing without a
                      control, this one by another metric than accuracy),
                      "scores": [{"name", estimate, low, high, n, "metrics": {key: interval}}],
                      "differences": [{"name", estimate, low, high, p_holm}] of chosen minus each control} | {}
    ranks             one entry a base: {"base", "size", "neighbours", "probe", "logme", "hscore", "rank", "layer", "seconds",
                      "came_out": best score reached with it | null,
                      "forward_seconds": measured over all rows | null, "predicted_forward_seconds"}
    curves            {trial name: {"sizes": [..], "errors": [[one a seed] a size]}}
    labels_saved      {"words" | "scratch": {"factor", "low", "high", "censored", "catches_up_at", "at", "told": whether the curves say anything, "sentence"}}
    by_class          one line a class, the worst first: {"class", "n" true rows, "given" rows, "recall", "precision", "f1": interval | null}
    confusion         {"classes": [..], "counts": C x C, rows = true}
    calibration       {"bins": [{"confidence", "accuracy", "low", "high", "n"}], "error": debiased calibration error, an interval, "temperature"}
    coverage          {"coverage": [..], "risk": [..], "threshold": p | null, "promised_risk", "covered"}
    slices            [{"name", "n", "error", "low", "high", "rest_error", "confirmed"}]
    lengths           [{"tokens_from", "tokens_to", "n", "accuracy", "low", "high", "cut"}], `cut`: rows that lost text
    wrong             [{"row_id", "text", "label", "predicted", "probability"}] confident mistakes, for reading
    suspects          [{"row_id", "text", "label", "suggested", "margin"}] labels to check first
    audit             [{"check", "severity", "message", "advice", "n_rows"}]
    budget            {"seconds", "used_seconds", "memory_bytes", "peak_memory_bytes", "download_bytes", "downloaded_bytes", "licences"}
    provenance        {"task", "source", "rows", "train", "test", "split", "reading": what is read, predicted and split by, in a line,
                      "roles": {column: "role (reason)"}, "classes", "rows_digest", "bases": {key: digest}, "seed", "versions",
                      "machine", "started", "finished", "command", "precision": {...}}
    notes             lines that the reader must not miss (controls that won, arms that did not run and why, rows cut)
    """

    verdict: str
    sentence: str
    chosen: str
    metric: str = "accuracy"
    tied: list[str] = field(default_factory=list)
    winner: Json = field(default_factory=dict)
    leaderboard: list[Json] = field(default_factory=list)
    test: Json = field(default_factory=dict)
    ranks: list[Json] = field(default_factory=list)
    curves: Json = field(default_factory=dict)
    labels_saved: Json = field(default_factory=dict)
    by_class: list[Json] = field(default_factory=list)
    confusion: Json = field(default_factory=dict)
    calibration: Json = field(default_factory=dict)
    coverage: Json = field(default_factory=dict)
    slices: list[Json] = field(default_factory=list)
    lengths: list[Json] = field(default_factory=list)
    wrong: list[Json] = field(default_factory=list)
    suspects: list[Json] = field(default_factory=list)
    audit: list[Json] = field(default_factory=list)
    budget: Json = field(default_factory=dict)
    provenance: Json = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    folder: str = ""

    @property
    def accuracy(self) -> tuple[Json, str]:
        """(share right as an interval, the rows it is from), by whatever metric was chosen by; {} where nothing was scored.

        Without test rows: the chosen arm's, corrected for having been picked where it is `corrected`, else as it looks.
        """
        if scores := self.test.get("scores"):
            return scores[0].get("metrics", {}).get("accuracy", scores[0]), "locked test rows"
        if self.corrected and self.metric == "accuracy":
            return self.winner, "cross-validation"
        line = next((e for e in self.leaderboard if e["name"] == self.chosen), {})
        looks = (line.get("score") or {}) if self.metric == "accuracy" else {}
        return line.get("metrics", {}).get("accuracy", looks), "cross-validation"

    @property
    def corrected(self) -> bool:
        """Whether `winner` is the score of the chosen arm: in a tie, or where another one was asked for, it is the leader's alone."""
        return bool(self.winner) and self.winner.get("name", self.chosen) == self.chosen

    def __repr__(self) -> str:
        return f"Decision({self.verdict!r}, chosen={self.chosen!r}, folder={self.folder!r})"

    def __str__(self) -> str:
        """The sentence, then a line an arm: score with its 95 % interval, seconds to fit, size, licence; * marks the chosen one."""
        lines = [("", "arm", f"{self.metric} [95 %]", "s fit", "MB", "licence")]
        for line in self.leaderboard:
            score, mark = line.get("score"), "*" if line["name"] == self.chosen else ""
            told = "{estimate:.3f} [{low:.3f}, {high:.3f}]".format(**score) if score else line["status"]
            seconds = "" if line.get("seconds") is None else f"{line['seconds']:.1f}"
            size = f"{(line.get('size_bytes') or 0) / 1e6:.0f}"
            lines.append((mark, line["name"], told, seconds, size, line.get("licence") or ""))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
        return "\n".join([self.sentence, "", *rows])

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Decision:
        """The decision of a file; RunError where it is damaged or of another version."""
        value = read_json(path)
        try:
            return cls(**value)
        except TypeError as error:
            raise RunError(
                f"{path} is not a decision that this version reads: {str(error).partition(' ')[2]}",
                "run `basewise choose` again, or use the version that wrote it",
            ) from error
