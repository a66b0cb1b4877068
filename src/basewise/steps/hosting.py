"""Hosting: opened predictors over shared bases; a batch of rows of any tasks is answered with one forward pass a base.

A host opens run folders, predictor folders and release folders (verified before anything in them is loaded), names each by
the digest of its predictor, and answers batches. It knows nothing of HTTP; `steps/worker.py` runs one in a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import EMBED, GENERATE, Base
from basewise.core.errors import BasewiseError, InputError, PredictorChanged
from basewise.core.files import read_json
from basewise.core.hashing import seed_from, sha256_file
from basewise.core.release import Release, is_release
from basewise.stats.conformal import conformal_quantile
from basewise.steps.predict import GOLDEN, Predictor, load, predictor_folder

ALPHA = 0.1
"""Conformal sets hold the truth with probability 0.9 on rows like those of the evidence."""
PROJECTED = 24
"""Numbers of a row that the watch keeps: a fixed random projection of its features, from which no text can be read."""
MOST_REFERENCE = 5_000
MIXED_BOUND = 1e-3
"""Largest change of a golden probability by mixing adapters: rounding of another shape of batch."""


@dataclass(frozen=True)
class Hosted:
    """An opened predictor: `about` is what the service tells of it. Without a predictor, the base's own rows."""

    predictor: Predictor | None
    reader: Any
    base: Base | None
    about: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Rows of one version in a batch; `tokens` as engine.tokens.Tokens or None; `watched`: features for the watch too."""

    version: str
    texts: Sequence[str]
    tokens: Any = None
    watched: bool = False


@dataclass(frozen=True)
class Answered:
    """(n, C) probabilities of a part and (n, PROJECTED) of its features, or the error in their place."""

    probabilities: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    features: np.ndarray | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class Mixed:
    """A LoRA predictor whose adapter has joined the others on its base; `name` of it in the mixture."""

    classes: tuple[str, ...]
    mixture: Any
    name: str

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C), alone."""
        found: np.ndarray = self.mixture.probabilities([(self.name, texts)])[0]
        return found


def version_of(folder: Path) -> str:
    """The name of what a folder holds, twelve digits: of a release its id, else the sha256 of predictor.json."""
    if is_release(folder):
        return Release.load(folder).id[:12]
    return sha256_file(predictor_folder(folder) / "predictor.json")[:12]


def verified(folder: Path) -> Release | None:
    """The record of a release, once every byte of its folder is as released; None for a folder that is no release."""
    if not is_release(folder):
        return None
    from basewise.engine.signing import verify

    verify(folder)
    return Release.load(folder)


def check_files(folder: Path) -> None:
    """PredictorChanged where a file of a predictor is not the one that its record names."""
    folder = predictor_folder(folder)
    for name, digest in read_json(folder / "predictor.json")["files"].items():
        if not (folder / name).is_file() or sha256_file(folder / name) != digest:
            raise PredictorChanged(f"{folder / name} is missing or changed", "copy the folder again")


class Host:
    """Opened predictors by version, bases by name, over one set of shared bases."""

    def __init__(self) -> None:
        from basewise.engine.shared import Bases

        self.bases = Bases()
        self.hosted: dict[str, Hosted] = {}
        self.served: dict[str, Base] = {}
        self.mixtures: dict[str, Any] = {}

    def open(self, folder: str | Path, version: str = "") -> dict[str, Any]:
        """Open a run, predictor or release folder; what the service tells of it. Whole or not at all.

        With `version`, a folder that has become another one since is PredictorChanged.
        """
        from basewise.engine.shared import Reader

        folder = Path(folder)
        record = verified(folder)
        found = version_of(folder)
        if version and version != found:
            raise PredictorChanged(
                f"{folder} holds version {found}, {version} was expected", "give its folder again"
            )
        if found in self.hosted:
            check_files(
                folder
            )  # the same record, but perhaps another copy: it is what a later worker will open
            return self.hosted[found].about
        reader = Reader(self.bases)
        predictor = load(folder, reader)  # checks every digest and the golden answers
        predictor = self._joined(predictor, found)
        base = next((base for base, _ in reader.asked.values()), None)
        about = describe(folder, predictor, found)
        if record is not None:
            about["task"] = address_of(record.name)
            if least := record.conformal.get("least_probability"):
                about["conformal"] = {
                    "alpha": record.conformal["alpha"],
                    "least": least,
                    "rows": record.conformal["n"],
                }
        about["shared"] = bool(reader.asked) or isinstance(predictor.fitted, Mixed)
        self.hosted[found] = Hosted(predictor, reader, base, about)
        return about

    def _joined(self, predictor: Predictor, version: str) -> Predictor:
        """A LoRA predictor among the adapters on its base, if mixed it answers the golden rows as it does alone."""
        if predictor.record["method"] != "lora":
            return predictor
        from basewise.engine.adapters import Mixture, adapter_of

        network, digest = predictor.fitted.network, predictor.record["base"]["digest"]  # type: ignore[attr-defined]
        adapter = adapter_of(network.model)
        if adapter is None:
            return predictor
        alone = predictor.fitted.probabilities(GOLDEN)
        mixture = self.mixtures.get(digest) or Mixture(network)
        if not mixture.add(version, adapter):
            return predictor
        mixed = Mixed(predictor.classes, mixture, version)
        if np.abs(mixed.probabilities(GOLDEN) - alone).max() > MIXED_BOUND:
            raise BasewiseError(
                f"the adapter of {version} answers differently among others", "serve it merged"
            )
        self.mixtures[digest] = mixture
        return replace(predictor, fitted=mixed)  # type: ignore[arg-type]

    def close(self, version: str) -> None:
        """Forget a version, and bases that no other one reads."""
        self.hosted.pop(version, None)
        for digest, mixture in list(self.mixtures.items()):
            mixture.adapters.pop(version, None)
            if not mixture.adapters:
                del self.mixtures[digest]
        kept = {place for h in list(self.hosted.values()) for place in h.reader.asked}
        served = {base.digest for base in self.served.values()}
        self.bases.close(kept | {p for p in self.bases.open if p[0].rpartition("-")[0] in served})

    def open_base(self, name: str) -> dict[str, Any]:
        """Make a base ready for embeddings and, where it can, for generation."""
        from basewise.steps.bases import pull

        base = pull(name)
        self.served[base.key] = base
        provides = sorted(base.provides & {EMBED, GENERATE})
        if GENERATE in base.provides:
            from basewise.engine.causal import opened

            opened(base)
        elif EMBED in base.provides:
            self.answer([Part(self.embedder(base.key), ["ready"])])
        return {"key": base.key, "digest": base.digest, "width": base.card.width, "provides": provides}

    def base_named(self, name: str) -> Base:
        """A served base, or the base of a hosted predictor."""
        if name in self.served:
            return self.served[name]
        for hosted in list(self.hosted.values()):  # another thread may open a version meanwhile
            if hosted.base is not None and hosted.base.key == name:
                return hosted.base
        raise InputError(f"no base {name!r} is served", "name it when the service starts: --base NAME")

    def tokens(self, version: str, texts: Sequence[str]) -> tuple[Any, int]:
        """(tokens or None, how many tokens the rows will take), before any forward pass."""
        hosted = self.hosted.get(version)
        if hosted is None:
            raise InputError(f"version {version} is not open", "load it first")
        if hosted.base is None:
            return None, sum(1 + len(t) // 4 for t in texts)
        tokens = self.bases.tokens(hosted.base, texts)
        return tokens, int(tokens.lengths.sum())

    def embedder(self, name: str) -> str:
        """The version under which rows of a base itself are asked for: unit rows of its last layer, token means.

        They go through the same batches as the tasks, so that one forward pass serves both.
        """
        from basewise.engine.features import views_of
        from basewise.engine.frozen import name_layer
        from basewise.engine.shared import Reader, place_of

        version = f"base:{name}"
        if version not in self.hosted:
            base = self.base_named(name)
            if EMBED not in base.provides:
                raise InputError(f"{name} cannot embed", "use a base that provides embed")
            reader = Reader(self.bases)
            place = place_of(base, self._precision(base))
            reader.asked[place] = (base, views_of(base, name_layer(base.card)))
            self.hosted[version] = Hosted(None, reader, base, {"version": version})
        return version

    def _precision(self, base: Base) -> str:
        """The precision in which a hosted predictor already reads this base, so that it is not opened twice."""
        for digest, precision in self.bases.open:
            if digest.rpartition("-")[0] == base.digest:
                return precision
        return "fp32"

    def answer(self, batch: Sequence[Part]) -> list[Answered]:
        """Probabilities of every part; one forward pass a base for all of them. A part that fails fails alone."""
        from basewise.engine.shared import Asked, shared_passes

        known = [(part, self.hosted.get(part.version)) for part in batch]
        asked = [Asked(h.reader, part.texts, part.tokens) for part, h in known if h is not None]
        made = shared_passes(self.bases, asked)
        mixed = _mixed(known)
        out = []
        for place, (part, hosted) in enumerate(known):
            if hosted is None:
                out.append(Answered(error=InputError(f"version {part.version} is not open", "load it first")))
                continue
            try:
                out.append(self._one(part, hosted, made, mixed.get(place)))
            except Exception as error:  # noqa: BLE001 - one task's failure must not be its neighbours'
                out.append(Answered(error=error))
        return out

    @staticmethod
    def _one(part: Part, hosted: Hosted, made: dict[Any, Any], given: np.ndarray | None) -> Answered:
        if hosted.predictor is None:
            return Answered(_rows_of_base(part, hosted, made))
        hosted.reader.give(made)
        try:
            own = hosted.predictor.fitted.probabilities
            probabilities = np.asarray(own(list(part.texts))) if given is None else given
        finally:
            hosted.reader.give({})
        if (
            probabilities.shape != (len(part.texts), len(hosted.predictor.classes))
            or not np.isfinite(probabilities).all()
        ):
            raise BasewiseError(f"version {part.version} gave no probabilities", "roll it back")
        return Answered(probabilities, _watched(part, hosted, made, probabilities) if part.watched else None)


def _mixed(known: Sequence[tuple[Part, Hosted | None]]) -> dict[int, np.ndarray]:
    """Probabilities of the parts whose adapters share a base, by place: one pass over the rows of all of them."""
    groups: dict[int, list[int]] = {}
    for place, (_, hosted) in enumerate(known):
        if hosted is not None and hosted.predictor is not None and isinstance(hosted.predictor.fitted, Mixed):
            groups.setdefault(id(hosted.predictor.fitted.mixture), []).append(place)
    found: dict[int, np.ndarray] = {}
    for places in groups.values():
        if len(places) > 1:
            fitted: list[Any] = [known[i][1].predictor.fitted for i in places]  # type: ignore[union-attr]
            asked = [(f.name, known[i][0].texts) for i, f in zip(places, fitted, strict=True)]
            found.update(zip(places, fitted[0].mixture.probabilities(asked), strict=True))
    return found


def _watched(part: Part, hosted: Hosted, made: dict[Any, Any], probabilities: np.ndarray) -> np.ndarray:
    """(n, PROJECTED) float32: the deepest view that the task reads, projected; log-probabilities where it reads none."""
    rows = np.log(np.maximum(probabilities, 1e-6)).astype(np.float32)
    for place in hosted.reader.asked:
        if place in made:
            index = np.fromiter((made[place].row[t] for t in part.texts), np.int64, len(part.texts))
            rows = made[place].values[index, -1].astype(np.float32)
            break
    return rows @ projection(rows.shape[1])


def _rows_of_base(part: Part, hosted: Hosted, made: dict[Any, Any]) -> np.ndarray:
    """(n, width) unit rows of the one view that an embedder reads."""
    from basewise.engine.probe import unit

    ((place, (_, wanted)),) = hosted.reader.asked.items()
    found = made[place]
    index = np.fromiter((found.row[t] for t in part.texts), np.int64, len(part.texts))
    return unit(found.values[index, found.names.index(wanted[0].name)].astype(np.float32))


def projection(width: int) -> np.ndarray:
    """(width, PROJECTED) float32 of fixed random directions."""
    draw = np.random.default_rng(seed_from("watch", width))
    return (draw.standard_normal((width, PROJECTED)) / np.sqrt(PROJECTED)).astype(np.float32)


def describe(folder: Path, predictor: Predictor, version: str) -> dict[str, Any]:
    """Name, version, classes, thresholds and what is known from held-out rows (no text) of an opened predictor."""
    record = predictor.record
    base = record["base"]
    about = {
        "task": task_name(folder),
        "version": version,
        "folder": str(Path(folder).resolve()),
        "method": record["method"],
        "base": base["key"] if base else None,
        "base_digest": base["digest"] if base else None,
        "classes": list(predictor.classes),
        "inputs": list(predictor.inputs),
        "threshold": predictor.threshold,
        "conformal": None,
        "reference": None,
    }
    held = held_out(folder, predictor)
    if held is not None:
        probabilities, labels = held
        true = probabilities[np.arange(len(labels)), labels]
        about["conformal"] = {"alpha": ALPHA, "least": conformal_quantile(true, ALPHA), "rows": len(labels)}
        n = len(predictor.classes)
        confusion = np.zeros((n, n))
        np.add.at(confusion, (probabilities.argmax(1), labels), 1)
        some = np.linspace(0, len(labels) - 1, min(len(labels), MOST_REFERENCE)).astype(int)
        about["reference"] = {
            "rows": len(labels),
            "confusion": confusion.tolist(),
            "confidence": probabilities.max(1)[some].round(6).tolist(),
            "right": (probabilities.argmax(1) == labels)[some].astype(int).tolist(),
        }
    return about


def task_name(folder: Path) -> str:
    """The name a run's task is served under: of its run folder, in letters that an address takes."""
    folder = Path(folder).resolve()
    return address_of(folder.parent.name if folder.name == "predictor" else folder.name)


def address_of(name: str) -> str:
    """A name in letters that an address takes."""
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-.")
    return kept or "task"


def held_out(folder: Path, predictor: Predictor) -> tuple[np.ndarray, np.ndarray] | None:
    """(probabilities (n, C), labels (n,)) of the chosen arm on rows it was not fitted on, from the run's evidence."""
    folder = Path(folder)
    folder = folder.parent if folder.name == "predictor" else folder
    evidence, decision = folder / "evidence.parquet", folder / "decision.json"
    if not evidence.is_file():
        return None
    import pyarrow.parquet as pq

    base = predictor.record["base"]
    method = predictor.record["method"]
    chosen = f"{base['key']} + {method}" if base else method  # as evidence names its trials
    if decision.is_file():
        chosen = read_json(decision).get("chosen")
    columns = ["label", *(f"p_{i}" for i in range(len(predictor.classes))), "row_id"]
    try:
        table = pq.read_table(evidence, columns=columns, filters=[("trial", "=", chosen)])
    except (OSError, ValueError, KeyError):
        return None
    if not len(table):
        return None
    _, once = np.unique(table["row_id"].to_numpy(), return_index=True)  # repeats would count a row twice
    table = table.take(once)
    probabilities = np.stack([table[c].to_numpy() for c in columns[1:-1]], 1)
    labels = table["label"].to_numpy()
    known = (labels >= 0) & np.isfinite(probabilities).all(1)
    return (probabilities[known], labels[known].astype(np.int64)) if known.any() else None
