"""Hosting: opened predictors over shared bases; a batch of rows of any tasks is answered with one forward pass a base.

A host opens run folders, predictor folders and release folders (verified before anything in them is loaded), names each by
the digest of its predictor, and answers batches. It knows nothing of HTTP; `steps/worker.py` runs one in a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import EMBED, GENERATE, Base
from basewise.core.errors import BasewiseError, InputError, PredictorChanged
from basewise.core.files import read_json
from basewise.core.hashing import seed_from, sha256_file
from basewise.core.method import ReadsApart
from basewise.core.release import Release, is_release
from basewise.steps.described import address_of, describe
from basewise.steps.predict import GOLDEN, Predictor, load, predictor_folder

PROJECTED = 24
"""Numbers of a row that the watch keeps: a fixed random projection of its features, from which no text can be read."""
OF_BASE = "base:"
"""Before the name of a base: the version under which its own rows are asked for."""
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
            # the same record, but perhaps another copy: it is what a later worker will open
            check_files(folder)
            return self.hosted[found].about
        reader = Reader(self.bases)
        # checks every digest and the golden answers
        predictor = load(folder, reader)
        predictor = self._joined(predictor, found)
        base = next((base for base, _ in reader.asked.values()), None)
        about = describe(folder, predictor, found)
        if record is not None:
            about["task"] = address_of(record.name)
            # 0.0: all classes
            if (least := record.conformal.get("least_probability")) is not None:
                about["conformal"] = {
                    "alpha": record.conformal["alpha"],
                    "least": least,
                    "rows": record.conformal["n"],
                }
        about["embeds"] = _pretrained(predictor) is not None
        about["shared"] = bool(reader.asked) or isinstance(predictor.fitted, Mixed)
        self.hosted[found] = Hosted(predictor, reader, base, about)
        return about

    def _joined(self, predictor: Predictor, version: str) -> Predictor:
        """A LoRA predictor among the adapters on its base, if mixed it answers the golden rows as it does alone."""
        drawn = (predictor.record["base"] or {}).get("random_seed") is not None
        # each random network is its own
        if predictor.record["method"] != "lora" or drawn:
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
        for name in [name for name in list(self.hosted) if name.startswith(OF_BASE)]:
            if self._known(name.removeprefix(OF_BASE)) is None:
                del self.hosted[name]
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
        if (base := self._known(name)) is not None:
            return base
        raise InputError(f"no base {name!r} is served", "name it when the service starts: --base NAME")

    def _known(self, name: str) -> Base | None:
        if name in self.served:
            return self.served[name]
        # another thread may open a version meanwhile
        for hosted in list(self.hosted.values()):
            base = None if hosted.predictor is None else _pretrained(hosted.predictor)
            if base is not None and base.key == name:
                return base
        return None

    def tokens(self, version: str, texts: Sequence[str]) -> tuple[Any, int]:
        """(tokens or None, how many tokens the rows will take), before any forward pass."""
        hosted = self.hosted.get(version)
        if hosted is None:
            raise InputError(f"version {version} is not open", "load it first")
        if hosted.base is None:
            return None, sum(1 + len(t) // 4 for t in texts)
        tokens = self.bases.tokens(hosted.base, texts)
        # columns that are read apart hold the words of the rows once more
        fitted = hosted.predictor.fitted if hosted.predictor else None
        passes = 2 if isinstance(fitted, ReadsApart) else 1
        return tokens, passes * int(tokens.lengths.sum())

    def embedder(self, name: str) -> str:
        """The version under which rows of a base itself are asked for: unit rows of its last layer, token means.

        They go through the same batches as the tasks, so that one forward pass serves both.
        """
        from basewise.engine.features import views_of
        from basewise.engine.frozen import name_layer
        from basewise.engine.shared import Reader, place_of

        version = f"{OF_BASE}{name}"
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
        asked = [Asked(h.reader, *_read(part, h)) for part, h in known if h is not None]
        made = shared_passes(self.bases, asked)
        found: dict[int, Answered] = {}
        for place, given in _mixed(known).items():
            found[place] = self._alone(*known[place], made, given)
        together: dict[str, list[int]] = {}
        for place, part in enumerate(batch):
            if place not in found:
                together.setdefault(part.version, []).append(place)
        for places in together.values():
            parts, hosted = [batch[i] for i in places], known[places[0]][1]
            found.update(zip(places, self._of_one_version(parts, hosted, made), strict=True))
        return [found[place] for place in range(len(batch))]

    def _of_one_version(
        self, parts: list[Part], hosted: Hosted | None, made: dict[Any, Any]
    ) -> list[Answered]:
        """The parts of one version read by its head at once, instead of once a request."""
        if len(parts) > 1:
            texts = [text for part in parts for text in part.texts]
            whole = Part(parts[0].version, texts, None, any(part.watched for part in parts))
            answered = self._alone(whole, hosted, made)
            if answered.error is None:
                ends = np.cumsum([len(part.texts) for part in parts])[:-1]
                rows = np.split(answered.probabilities, ends)
                kept = [None] * len(parts) if answered.features is None else np.split(answered.features, ends)
                return [
                    Answered(p, f if part.watched else None)
                    for part, p, f in zip(parts, rows, kept, strict=True)
                ]
        return [self._alone(part, hosted, made) for part in parts]

    def _alone(
        self, part: Part, hosted: Hosted | None, made: dict[Any, Any], given: np.ndarray | None = None
    ) -> Answered:
        """One part's answer, or its error."""
        if hosted is None:
            return Answered(error=InputError(f"version {part.version} is not open", "load it first"))
        try:
            return self._one(part, hosted, made, given)
        except Exception as error:  # noqa: BLE001 - one task's failure must not be its neighbours'
            return Answered(error=error)

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


def _pretrained(predictor: Predictor) -> Base | None:
    """The base of a predictor, where it embeds and is no network of random weights."""
    base = predictor.base
    return base if base is not None and base.random_seed is None and EMBED in base.provides else None


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


def _read(part: Part, hosted: Hosted) -> tuple[Sequence[str], Any]:
    """(all texts whose features a part's predictor reads, their tokens where they are its rows alone)."""
    fitted = hosted.predictor.fitted if hosted.predictor else None
    if isinstance(fitted, ReadsApart):
        return [*part.texts, *fitted.apart(part.texts)], None
    return part.texts, part.tokens


def _watched(part: Part, hosted: Hosted, made: dict[Any, Any], probabilities: np.ndarray) -> np.ndarray:
    """(n, PROJECTED) float32: the last view that the task asks for, projected; log-probabilities where it asks for none."""
    rows = np.log(np.maximum(probabilities, 1e-6)).astype(np.float32)
    for place, (_, views) in hosted.reader.asked.items():
        if place in made:
            # a pass holds the views of all tasks of its batch, in an order of its own
            rows = _rows_of_view(part, made[place], views[-1].name)
            break
    # without BLAS: its threads would fight with those of the network for a product this small
    return np.einsum("nd,dk->nk", rows, projection(rows.shape[1]))


def _rows_of_base(part: Part, hosted: Hosted, made: dict[Any, Any]) -> np.ndarray:
    """(n, width) unit rows of the one view that an embedder reads."""
    from basewise.engine.probe import unit

    ((place, (_, wanted)),) = hosted.reader.asked.items()
    return unit(_rows_of_view(part, made[place], wanted[0].name))


def _rows_of_view(part: Part, made: Any, name: str) -> np.ndarray:
    """(n, width) float32 of one view of a pass."""
    index = np.fromiter((made.row[t] for t in part.texts), np.int64, len(part.texts))
    found: np.ndarray = made.values[index, made.names.index(name)].astype(np.float32)
    return found


@lru_cache(maxsize=64)
def projection(width: int) -> np.ndarray:
    """(width, PROJECTED) float32 of fixed random directions."""
    draw = np.random.default_rng(seed_from("watch", width))
    return (draw.standard_normal((width, PROJECTED)) / np.sqrt(PROJECTED)).astype(np.float32)
