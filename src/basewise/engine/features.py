"""Features of texts from a base: computed once, kept by the content of the text, shared by every method.

Probe, neighbours, prototypes, audit, slices and drift all read the same rows, so one forward pass pays for all of them.
A second run with the same texts forwards nothing. Memory stays flat: rows are computed in chunks and read back from
memory-mapped shards.
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import Base
from basewise.core.errors import BasewiseError
from basewise.core.files import Progress, read_json, silent, write_json
from basewise.engine import device
from basewise.engine.layers import View, views
from basewise.engine.precision import SAMPLE, Verified, candidate, compare, sample_rows
from basewise.engine.shards import Shard, Space, half_fits, keys_of
from basewise.engine.tokens import Tokeniser, Tokens

CHUNK = 8192
"""Texts tokenised, sorted and forwarded together."""
REVERIFY = 256
"""From this many new rows on, a recorded precision is verified again on a sample of them."""
OPEN_ENCODERS = 4
"""Networks that stay loaded; a race over a few bases then reads each once."""


class Features:
    """Feature matrices of n texts, read lazily.

    `names` of the matrices; `tokens` (n,) tokens of each text after the cut; `cut` (n,) whether it was longer than
    the base's context; `precision` used and `verified` (its comparison with fp32, empty for fp32); `seconds` spent and
    `forwarded`, the texts that had to be computed, identical texts once.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        width: int,
        shards: list[Shard],
        where: np.ndarray,
        spent: tuple[float, int],
    ) -> None:
        self.names, self.width = names, width
        self._shards, self._where = shards, where
        self.seconds, self.forwarded = spent
        self.precision, self.verified = "fp32", dict[str, Any]()
        self.tokens = self._gather(lambda s: s.tokens, np.int64)
        self.cut = self._gather(lambda s: s.cut, bool)

    def __len__(self) -> int:
        return len(self._where)

    def _gather(
        self, column: Any, dtype: Any, rows: np.ndarray | None = None, shape: tuple[int, ...] = ()
    ) -> np.ndarray:
        where = self._where if rows is None else self._where[rows]
        out = np.empty((len(where), *shape), dtype)
        for index in np.unique(where[:, 0]):
            here = np.flatnonzero(where[:, 0] == index)
            out[here] = column(self._shards[index])[where[here, 1]]
        return out

    def matrix(self, name: str, rows: np.ndarray | None = None) -> np.ndarray:
        """(n, width) float32 of one name, or of some rows only; a fresh array each time, not normalised."""
        if name not in self.names:
            from basewise.core.errors import UnknownName

            raise UnknownName.of("feature matrix", name, self.names)
        return self._gather(lambda s: s.values[:, s.names.index(name)], np.float32, rows, (self.width,))


class FeatureStore:
    """Features by base, precision and text. `root` None keeps them in memory only; `keep` False keeps none beyond the call that
    asked for them: a predictor answers any number of rows in flat memory.

    Safe with several processes on one root: shards are whole files that never change.
    """

    def __init__(self, root: Path | None, keep: bool = True) -> None:
        self.root = Path(root) if root is not None else None
        self.keep = keep
        self._spaces: dict[tuple[str, str], Space] = {}
        self._encoders: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._tokenisers: dict[str, Tokeniser] = {}
        self._chosen: dict[str, dict[str, Any]] = {}

    def features(
        self,
        base: Base,
        texts: Sequence[str],
        *,
        layers: str | Sequence[str] = "default",
        poolings: Sequence[str] = ("mean",),
        precision: str = "auto",
        progress: Progress = silent,
    ) -> Features:
        """Features of `texts` in their order; what is not in the store is computed, and kept where the store keeps.

        `layers`: "default", a name or several ("layer4", "all", "layer6:first"); `poolings`: "mean", "first", "last".
        `precision`: "auto" (bf16 if faster here and verified on these rows, else fp32), "fp32", "bf16", "int8".
        """
        return self._features(base, list(texts), (layers, tuple(poolings), precision), self.keep, progress)

    def missing(self, base: Base, texts: Sequence[str]) -> int:
        """How many of these texts, identical ones once, `features` would have to compute for the default layers."""
        unique = np.unique(_as_rows(keys_of(list(texts)))).view(np.uint64).reshape(-1, 2)
        precision = "fp32" if base.card.family == "static" else self._settled(base, "auto")
        if precision is None:
            return len(unique)
        space = self._space(base, precision)
        space.refresh()
        return int((space.find(unique, tuple(v.name for v in views_of(base, "default")))[0] < 0).sum())

    def iterate(
        self,
        base: Base,
        texts: Iterable[str],
        *,
        layers: str | Sequence[str] = "default",
        poolings: Sequence[str] = ("mean",),
        precision: str = "auto",
        chunk: int = CHUNK,
    ) -> Iterator[Features]:
        """Features of a stream, `chunk` texts at a time, in flat memory; nothing new is written to disk.

        With "auto" the first chunk decides the precision for the whole stream.
        """
        source = iter(texts)
        while part := list(itertools.islice(source, chunk)):
            got = self._features(base, part, (layers, tuple(poolings), precision), False, silent)
            precision = got.precision
            yield got

    def close(self) -> None:
        """Let go of the loaded networks; what was computed stays."""
        self._encoders.clear()

    def _features(
        self,
        base: Base,
        texts: list[str],
        how: tuple[str | Sequence[str], tuple[str, ...], str],
        keep: bool,
        progress: Progress,
    ) -> Features:
        """See `features`; `how` is (layers, poolings, precision)."""
        started = time.perf_counter()
        static = base.card.family == "static"
        wanted = views_of(base, how[0], how[1])
        names = tuple(v.name for v in wanted)
        keys = keys_of(texts)
        _, first, inverse = np.unique(_as_rows(keys), return_index=True, return_inverse=True)
        unique = keys[first]
        precision = "fp32" if static else self._settled(base, how[2])
        if precision is None or self._worth_checking(base, how[2], precision, unique, names):
            precision = self._verify(base, how[2], [texts[i] for i in first], wanted)
        space = self._space(base, precision)
        space.refresh()
        at, row = space.find(unique, names)
        missing = np.flatnonzero(at < 0)
        extra: list[Shard] = []
        if len(missing):
            todo = [texts[i] for i in first[missing]]
            for part, shard in self._compute(base, precision, todo, wanted, progress):
                rows = missing[part]
                kept = space.add(shard) if keep else shard
                extra.append(kept)
                at[rows] = len(space.shards) - 1 if keep else -1 - len(extra)
                row[rows] = kept.find(unique[rows])
        shards = list(space.shards)
        if not keep:
            at = np.where(at < 0, len(shards) - 2 - at, at)
            shards += extra
        where = np.stack([at, row], 1)[inverse.reshape(-1)]
        result = Features(
            names, base.card.width, shards, where, (time.perf_counter() - started, len(missing))
        )
        result.precision = precision
        result.verified = {} if precision == "fp32" else self._records(base).get(precision, {})
        return result

    def _compute(
        self, base: Base, precision: str, texts: list[str], wanted: tuple[View, ...], progress: Progress
    ) -> Iterator[tuple[slice, Shard]]:
        """Shards of `texts`, chunk by chunk; the tokeniser works one chunk ahead in a thread."""
        tokenise, encoder = self._tokeniser(base), self._encoder(base, precision)
        parts = [slice(s, min(s + CHUNK, len(texts))) for s in range(0, len(texts), CHUNK)]
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(tokenise, texts[parts[0]])
            for number, part in enumerate(parts):
                tokens = coming.result()
                if number + 1 < len(parts):
                    coming = ahead.submit(tokenise, texts[parts[number + 1]])

                def report(done: int, _total: int, what: str, before: int = part.start) -> None:
                    progress(before + done, len(texts), what)

                values = stored(base, encoder(tokens, wanted, report))
                names = [v.name for v in wanted]
                yield part, Shard.of(names, keys_of(texts[part]), tokens.lengths, tokens.cut, values)

    def _place(self, base: Base) -> str:
        return f"{base.digest[:24]}-{base.card.context}"

    def _space(self, base: Base, precision: str) -> Space:
        key = (self._place(base), precision)
        if key not in self._spaces:
            self._spaces[key] = Space(self.root / key[0] / precision if self.root else None)
        return self._spaces[key]

    def _tokeniser(self, base: Base) -> Tokeniser:
        key = self._place(base)
        if key not in self._tokenisers:
            self._tokenisers[key] = open_tokeniser(base)
        return self._tokenisers[key]

    def _encoder(self, base: Base, precision: str) -> Any:
        """A function (tokens, views, progress) -> (n, views, width); the last few stay loaded."""
        key = (self._place(base), precision)
        if key not in self._encoders:
            self._keep_open(base, precision, open_encoder(base, precision))
        self._encoders.move_to_end(key)
        return self._encoders[key]

    def _keep_open(self, base: Base, precision: str, encoder: Any) -> None:
        while len(self._encoders) >= OPEN_ENCODERS:
            self._encoders.popitem(last=False)
        self._encoders[(self._place(base), precision)] = encoder

    def seconds_a_row(self, base: Base, texts: Sequence[str], rows: int = 48) -> float:
        """Seconds a row of a forward pass over all default layers, measured on rows spread over `texts`; nothing is stored."""
        some = [texts[i] for i in np.unique(np.linspace(0, len(texts) - 1, rows).astype(int))]
        precision = self.features(base, some).precision
        wanted = views_of(base, "default")
        tokenise, encoder = self._tokeniser(base), self._encoder(base, precision)
        # the first batch pays for warming up
        encoder(tokenise(some[:2]), wanted, silent)
        took: list[float] = []
        # one hiccup of the machine must not speak for the whole race
        while len(took) < 3 and sum(took) < 0.5:
            started = time.perf_counter()
            encoder(tokenise(some), wanted, silent)
            took.append(time.perf_counter() - started)
        return float(np.median(took)) / len(some)

    def _records(self, base: Base) -> dict[str, Any]:
        """Verifications of this base so far, by precision, and what "auto" settled on."""
        place = self._place(base)
        if place not in self._chosen:
            try:
                self._chosen[place] = read_json(self.root / place / "precision.json") if self.root else {}
            except BasewiseError:
                self._chosen[place] = {}
        return self._chosen[place]

    def _settled(self, base: Base, asked: str) -> str | None:
        """The precision if it needs no verification (any more), else None."""
        tried = candidate(asked, device.machine() if asked == "auto" else NO_MACHINE)
        if tried == "fp32" or asked == "bf16":
            return tried
        record = self._records(base).get(tried)
        if record is None or record["holds"]:
            return None if record is None else tried
        return self._settled(base, "auto") if asked == "int8" else "fp32"

    def _worth_checking(
        self, base: Base, asked: str, precision: str, unique: np.ndarray, names: tuple[str, ...]
    ) -> bool:
        """Whether enough rows are new to verify an automatic choice again on them."""
        if asked != "auto" or precision == "fp32":
            return False
        space = self._space(base, precision)
        space.refresh()
        return int((space.find(unique, names)[0] < 0).sum()) >= REVERIFY

    def _verify(self, base: Base, asked: str, texts: list[str], wanted: tuple[View, ...]) -> str:
        """Compare with fp32 on a sample of these texts; record it; the precision that holds.

        int8 that does not hold gives way to what "auto" would take.
        """
        if not texts:
            return "fp32"
        tried = candidate(asked, device.machine())
        count = int(np.clip(len(texts) // 16, 8, SAMPLE))
        rows = sample_rows([len(t) for t in texts], count)
        tokens: Tokens = self._tokeniser(base)([texts[r] for r in rows])
        exact, lower = _open_both(base, tried)
        reference = exact(tokens, wanted, silent)
        if (self._place(base), tried) not in self._encoders:
            self._keep_open(base, tried, lower())
        other = self._encoder(base, tried)(tokens, wanted, silent)
        found: Verified = compare(tried, reference, other)
        records = self._records(base)
        records[tried] = found.to_dict()
        if self.root is not None:
            write_json(self.root / self._place(base) / "precision.json", records)
        if found.holds:
            return tried
        return (
            "fp32"
            if asked == "auto"
            else self._settled(base, "auto") or self._verify(base, "auto", texts, wanted)
        )


NO_MACHINE: Any = None


def _as_rows(keys: np.ndarray) -> np.ndarray:
    """(n,) one opaque 16-byte value a row, so that rows can be compared whole."""
    return np.ascontiguousarray(keys).view([("a", np.uint64), ("b", np.uint64)]).reshape(-1)


def views_of(
    base: Base, layers: str | Sequence[str], poolings: Sequence[str] = ("mean",)
) -> tuple[View, ...]:
    """The views of a base by name."""
    return views(layers, poolings, 0 if base.card.family == "static" else base.card.layers)


def stored(base: Base, values: np.ndarray) -> np.ndarray:
    """Features as they are kept: float16 where that holds them; decoders have outliers beyond it in middle layers."""
    return values.astype(np.float16) if base.card.family != "decoder" and half_fits(values) else values


def open_tokeniser(base: Base, most: int | None = None) -> Tokeniser:
    """Token ids of texts, cut at the base's context, or at `most` tokens where that is less."""
    from basewise.engine import direct

    tokenizer = direct.tokenizer(base.folder)
    if tokenizer is None:
        from basewise.engine.weights import load_tokenizer

        tokenizer = load_tokenizer(base)
    return Tokeniser(
        tokenizer, min(base.card.context, most or base.card.context), base.card.family != "static"
    )


def open_encoder(base: Base, precision: str) -> Any:
    """Load a base for the forward pass: a function (tokens, views, progress) -> (n, views, width) float32."""
    if base.card.family == "static":
        from basewise.engine.static import StaticEncoder

        encoder = StaticEncoder(base)
        return lambda tokens, _wanted, _progress: encoder.encode(tokens)[:, None]
    from basewise.engine.encoder import Encoder, open_network

    return Encoder(open_network(base, precision)).encode


def _open_both(base: Base, precision: str) -> tuple[Any, Any]:
    """(the forward pass in fp32, a function that then gives the one in `precision`): the weights are read once.

    The second may convert the first one's weights in place, so the first is used before the second is asked for.
    """
    from basewise.engine.encoder import Encoder, open_networks

    network = open_networks(base)
    return Encoder(network("fp32")).encode, lambda: Encoder(network(precision)).encode
