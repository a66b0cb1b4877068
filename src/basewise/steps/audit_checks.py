"""The checks of an audit, each a function from the rows to findings: duplicates, leaks, noise, personal data, power.

Severities: "fail" makes a score untrue (a leak, test rows seen in train), "warn" makes it weaker or needs a person,
"info" is for knowing. No message repeats a text of the table, since findings travel in reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from basewise.core.gate import count
from basewise.core.language import NAMES, languages
from basewise.core.personal import personal_numbers, personal_rows
from basewise.core.roles import Role, is_number
from basewise.core.split import folds
from basewise.core.task import Finding, Task
from basewise.steps.audit_findings import TINY, finding
from basewise.steps.audit_repeats import Repeats, duplicates, header_among_rows

LEAK_FAIL, LEAK_WARN = 0.9, 0.6
NOISE_ROWS = 20_000
NOISE_FOLDS = 3
NOISE_GAIN = 0.2
LONG_CHARACTERS = 10_000
LONG_TIMES = 30
LANGUAGE_SHARE, LANGUAGE_ROWS = 0.01, 3
PERSONAL_WORDS = {
    "email": "e-mail addresses", "phone": "phone numbers", "iban": "IBANs", "card": "payment card numbers", "ip": "IP addresses",
}  # fmt: skip


def check_all(
    task: Task, repeats: Repeats, roles: dict[str, Role], seed: int, read: Mapping[str, tuple[str, ...]]
) -> list[Finding]:
    """Every check over all rows; repeats of the n rows, roles as guessed or given, read: the input columns (n cells each) where there are several."""
    near = repeats.near
    found = [
        *header_among_rows(task),
        *duplicates(task, repeats),
        *leaking_columns(task, near, roles, seed, read),
        *label_in_text(task),
    ]
    found += [*label_noise(task, near, seed), *personal_data(task, roles), *classes(task), *lengths(task)]
    return [*found, *language_mix(task), *power(task)]


def leaking_columns(
    task: Task, near: np.ndarray, roles: dict[str, Role], seed: int, read: Mapping[str, tuple[str, ...]]
) -> list[Finding]:
    """Columns whose value alone tells the class: scored on rows whose values were not counted.

    `gain`: share of the majority class's errors that the column removes, out of fold, so a unique id gains nothing. The number of an id
    is looked at in ranges; a column of groups on folds that divide them, since on others each value is new. An input among several may
    well help to tell the class; one that tells it nearly alone, looked up by its value, is found too.
    """
    labels, n = task.rows.labels, len(task.rows)
    fold = {"group": _folds(labels, near, 5, seed), "other": _folds(labels, task.rows.groups, 5, seed)}
    base = np.bincount(labels).max() / n
    found: list[Finding] = []
    for name, values in {**task.metadata, **read}.items():
        role = roles[name].role
        folds_here = fold["group" if role == "group" else "other"]
        codings = [] if role == "split" else _codings(values, role == "id")
        if folds_here is None or base == 1 or not codings:
            continue
        accuracy = max(_lookup_accuracy(codes, labels, folds_here) for codes in codings)
        gain = (accuracy - base) / (1 - base)
        surprise = (accuracy - base) * np.sqrt(n / max(base * (1 - base), 1e-9))
        if gain < (LEAK_FAIL if name in read else LEAK_WARN) or surprise < 3:
            continue
        share = f"{accuracy:.1%} of rows (chance: {base:.1%})"
        check, severity = "leak", "fail" if gain >= LEAK_FAIL else "warn"
        message = f"column {name!r} alone gives the right class in {share}"
        keep = "leave it out" if name in read else "keep it out"
        advice = f"{keep} of the inputs unless it is known before {task.target!r} is"
        if role == "id" and _in_row_order(values, task.rows.row_ids):
            check, severity = "row-order", "warn"
            message = f"the rows stand in the order of their classes: where one stands ({name!r}) gives the right class in {share}"
            advice = f"keep {name!r} out of the inputs, and make sure that the classes were collected alike"
        elif role == "group":
            # a group stays on one side of the split, so no score is untrue by this
            severity = "warn"
            message = f"the groups of column {name!r} have one class each: another row of its group gives a row's class in {share}"
            advice = f"keep it out of the inputs; if its names are made from {task.target!r}, give another group column"
        found.append(
            finding(check, severity, message, advice, numbers={"column": name, "accuracy": round(float(accuracy), 4), "gain": round(float(gain), 4)})
        )  # fmt: skip
    return found


def _codings(values: tuple[str, ...], ranges_only: bool) -> list[np.ndarray]:
    """(n,) value numbers as they are, unless `ranges_only`; many-valued numbers also in 20 bins of equal counts."""
    distinct, codes = np.unique(np.array(values, dtype=object), return_inverse=True)
    codings = [] if ranges_only else [codes]
    if len(distinct) > 20 and all(is_number(v) for v in distinct if v):
        numbers = np.array([float(v) if v else np.nan for v in values])
        edges = np.nanquantile(numbers, np.linspace(0, 1, 21)[1:-1])
        codings.append(np.where(np.isnan(numbers), 20, np.searchsorted(edges, numbers, side="right")))
    return codings


def _in_row_order(values: tuple[str, ...], row_ids: np.ndarray) -> bool:
    """Whether the numbers of a column only rise or only fall from row to row."""
    known = [i for i in np.argsort(row_ids) if values[i]]
    steps = np.diff([float(values[i]) for i in known])
    return bool((steps >= 0).all() or (steps <= 0).all())


def _lookup_accuracy(codes: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> float:
    """Accuracy of "the commonest class of this value in the other folds", an unseen value giving the commonest class."""
    n_values, n_classes = int(codes.max()) + 1, int(labels.max()) + 1
    right = 0
    for f in np.unique(fold):
        out = fold == f
        keys, counts = np.unique(codes[~out] * n_classes + labels[~out], return_counts=True)
        best = np.full(n_values, np.bincount(labels[~out], minlength=n_classes).argmax())
        # the last assignment, the largest count, stays
        order = np.argsort(counts, kind="stable")
        best[keys[order] // n_classes] = keys[order] % n_classes
        right += int((best[codes[out]] == labels[out]).sum())
    return right / len(labels)


def label_in_text(task: Task) -> list[Finding]:
    """Texts that name their own class and no other, in most rows."""
    names = [c.casefold() for c in task.classes]
    if min(map(len, names)) < 4 or len(names) > 200:
        return []
    step = max(1, len(task.rows) // 2000)
    sample = range(0, len(task.rows), step)
    own = other = 0
    for i in sample:
        text, mine = task.rows.texts[i].casefold(), int(task.rows.labels[i])
        own += names[mine] in text
        other += any(name in text for c, name in enumerate(names) if c != mine and name not in names[mine])
    share, rest = own / len(sample), other / len(sample)
    if share < 0.8 or rest > 0.3:
        return []
    message = f"{share:.0%} of the texts contain the name of their own class, {rest:.0%} that of another"
    return [
        finding(
            "label-in-text",
            "fail",
            message,
            "remove the label from the text",
            numbers={"own": share, "other": rest},
        )
    ]


def _folds(labels: np.ndarray, groups: np.ndarray, k: int, seed: int) -> np.ndarray | None:
    k = min(k, len(np.unique(groups)))
    return folds(labels, groups, k, seed) if k >= 2 else None


def label_noise(task: Task, near: np.ndarray, seed: int) -> list[Finding]:
    """Labels that words and the other rows speak against (confident learning, Northcutt et al. 2021)."""
    from basewise.stats.noise import label_suspects
    from basewise.steps.audit_words import words_out_of_fold

    labels, n = task.rows.labels, len(task.rows)
    chosen = np.arange(n)
    if n > NOISE_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(n, NOISE_ROWS, replace=False))
    fold = _folds(labels[chosen], near[chosen], NOISE_FOLDS, seed)
    if fold is None or n < 40:
        return []
    texts = [task.rows.texts[i] for i in chosen]
    probabilities = words_out_of_fold(texts, labels[chosen], fold, len(task.classes))
    accuracy = float((probabilities.argmax(1) == labels[chosen]).mean())
    base = np.bincount(labels[chosen]).max() / len(chosen)
    if accuracy < base + NOISE_GAIN * (1 - base):
        # words know nothing of this target, so what they speak against means nothing
        return []
    rows = task.rows.row_ids[chosen[label_suspects(probabilities, labels[chosen])]]
    if not len(rows):
        return []
    looked = f" of {len(chosen):,} looked at" if len(chosen) < n else ""
    message = (
        f"words speak against {count(len(rows), 'label')}{looked} (alone they are right in {accuracy:.0%} of rows): "
        "the first are the likeliest to be wrong"
    )
    severity, advice = (
        "warn" if accuracy >= 0.5 else "info",
        "read them from the first on and mend the labels",
    )
    return [finding("label-noise", severity, message, advice, rows, {"words_accuracy": round(accuracy, 4)})]


def personal_data(task: Task, roles: dict[str, Role]) -> list[Finding]:
    """Personal data in the texts and in the other columns, a finding a kind and place."""
    places = {"the texts": personal_rows(task.rows.texts)}
    places |= {
        f"column {n!r}": personal_numbers(n, v) if _plain_numbers(v) else personal_rows(v)
        for n, v in task.metadata.items()
        if roles[n].role not in ("split", "time")
    }
    found = []
    for place, kinds in places.items():
        for kind, positions in kinds.items():
            message = f"{PERSONAL_WORDS[kind]} stand in {count(len(positions), 'row')} of {place}"
            advice = "mask them, or make sure that you may use them; predictors and reports can carry texts"
            found.append(
                finding(
                    f"personal-{kind}",
                    "warn",
                    message,
                    advice,
                    task.rows.row_ids[positions],
                    {"place": place},
                )
            )
    return found


def _plain_numbers(values: Sequence[str]) -> bool:
    return all(is_number(v) and not v.startswith("+") for v in values[:200] if v)


def classes(task: Task) -> list[Finding]:
    """Classes with very few rows, classes without test rows, and one class that is nearly everything."""
    counts, names = task.rows.counts, np.array(task.classes, dtype=object)
    found = []
    for few, what in ((counts == 1, "one row"), ((counts > 1) & (counts < TINY), f"fewer than {TINY} rows")):
        if few.any():
            which = ", ".join(map(str, names[few][:6])) + (" …" if few.sum() > 6 else "")
            found.append(
                finding(
                    "tiny-classes", "warn", f"{count(int(few.sum()), 'class', 'classes')} with {what}: {which}",
                    "label more of them or merge them; they hardly count in any score",
                    task.rows.row_ids[np.isin(task.rows.labels, np.flatnonzero(few))],
                )
            )  # fmt: skip
    unseen = np.setdiff1d(task.rows.labels[task.split == "test"], task.rows.labels[task.split == "train"])
    if len(unseen):
        which = ", ".join(str(names[c]) for c in unseen[:6])
        found.append(
            finding(
                "untrained-classes",
                "warn",
                f"classes only in test: {which}",
                "nothing can learn them; split again",
            )
        )
    untested = np.setdiff1d(np.flatnonzero(counts >= TINY), task.rows.labels[task.split == "test"])
    if len(untested) and (task.split == "test").any():
        which = ", ".join(str(names[c]) for c in untested[:6])
        message = f"classes without a test row: {which}"
        found.append(
            finding("untested-classes", "warn", message, "the scores say nothing of them; split again")
        )
    share = counts.max() / counts.sum()
    if share > 0.9:
        message = f"the class {names[counts.argmax()]!r} holds {share:.1%} of the rows: always saying it is right that often"
        found.append(finding("imbalance", "warn", message, "read macro F1 beside accuracy"))
    return found


def lengths(task: Task) -> list[Finding]:
    """Absurdly long texts: above 10,000 characters and 30 times the median."""
    sizes = np.array([len(t) for t in task.rows.texts])
    limit = max(LONG_CHARACTERS, LONG_TIMES * float(np.median(sizes)))
    if not (long := sizes > limit).any():
        return []
    message = f"{count(int(long.sum()), 'text')} over {limit:,.0f} characters, the longest {sizes.max():,} (median {np.median(sizes):,.0f})"
    return [
        finding(
            "long-texts",
            "warn",
            message,
            "bases read the beginning only; cut or split them",
            task.rows.row_ids[long],
        )
    ]


def language_mix(task: Task) -> list[Finding]:
    """Languages beside the commonest one, each in at least 1% of the rows with a clear language and in three rows."""
    codes = languages(task.rows.texts)
    counts = Counter(code for code in codes if code)
    if not counts:
        return []
    (main, _), *others = counts.most_common()
    sure = sum(counts.values())
    mixed = {c: k for c, k in others if k >= max(LANGUAGE_ROWS, LANGUAGE_SHARE * sure)}
    if not mixed:
        return []
    rows = task.rows.row_ids[[i for i, code in enumerate(codes) if code in mixed]]
    spoken = ", ".join(f"{NAMES[c]} in {k:,}" for c, k in mixed.items())
    message = f"beside {NAMES[main]} ({counts[main]:,} rows) there is {spoken}"
    advice = "choose among bases that read these languages, or split the table by language"
    return [finding("languages", "warn", message, advice, rows, {"languages": dict(counts.most_common(8))})]


def power(task: Task) -> list[Finding]:
    """How small a difference between two predictors the test rows can show."""
    from basewise.stats.power import smallest_gap

    n = len(np.unique(task.rows.groups[task.split == "test"]))
    gap = smallest_gap(n)
    rows = int((task.split == "test").sum())
    shown = "no gap is shown reliably"
    if gap is not None:
        shown = f"a true gap of {100 * gap:.1f} points is shown 4 times in 5"
    few = gap is None or gap > 0.05
    severity, advice = ("warn", "label more test rows to tell closer ones apart") if few else ("info", "")
    told = None if gap is None else round(gap, 4)
    message = f"with your {count(rows, 'test row')} {shown}"
    return [
        finding(
            "power",
            severity,
            message,
            advice,
            numbers={"smallest_gap": told, "independent_rows": n, "test_rows": rows},
        )
    ]
