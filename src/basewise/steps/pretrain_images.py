"""What a new base of images is worth: a probe on its states against the same network from random weights and against the bare pixels.

A probe reads the mean over the patches of each layer, none of them hidden; which layers it reads is chosen on the labelled rows, for the
random twin as for the base. Accuracy with its interval, the paired difference, and the labels saved, as for texts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.errors import InputError
from basewise.core.files import Progress
from basewise.steps import worth

MOST_TRAIN, MOST_TEST, DRAWS = 2000, 1000, 3
BATCH = 100
CONTROLS = ("random weights", "pixels")
Features = dict[str, np.ndarray]


def read_pictures(folder: Path) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """((n, 3, S, S) uint8, (n,) class numbers) of train and test of a set with columns image and label."""
    import pyarrow.parquet as pq

    from basewise.steps.pretrain_data import decoded

    found: list[tuple[np.ndarray, list[str]]] = []
    for split, most in (("train", MOST_TRAIN), ("test", MOST_TEST)):
        try:
            table = pq.read_table(folder / f"{split}.parquet", columns=["image", "label"])
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f"cannot read labelled images from {folder / f'{split}.parquet'}: {error}",
                "give columns image and label",
            ) from error
        order = np.random.default_rng(0).permutation(len(table))[:most]
        table = table.take(order)
        found.append((decoded(table["image"].to_pylist()), [str(v) for v in table["label"].to_pylist()]))
    number = {name: place for place, name in enumerate(sorted(set(found[0][1])))}
    train, test = (
        (pixels[kept], np.array([number[labels[i]] for i in kept], np.int64))
        for pixels, labels in found
        for kept in [[i for i, label in enumerate(labels) if label in number]]
    )
    if train[0].shape[1:] != test[0].shape[1:]:
        raise InputError(f"the images of {folder} differ in size between train and test", "resize them")
    return train, test


def states(model: Any, pixels: np.ndarray) -> Features:
    """{"layer 0": (n, D), …}: the mean of the patches after each block of a `ViTMAEModel` that sees all of them."""
    import torch

    from basewise.parts.objectives.patches import MEAN, SD

    side = int(model.config.image_size)
    if pixels.shape[-1] != side:
        raise InputError(
            f"the images have {pixels.shape[-1]} pixels a side, the base {side}",
            f"resize them to {side} x {side}",
        )
    model.config.mask_ratio = 0.0
    count = (side // int(model.config.patch_size)) ** 2
    pooled: list[list[np.ndarray]] = []
    with torch.inference_mode():
        for start in range(0, len(pixels), BATCH):
            some = torch.from_numpy((pixels[start : start + BATCH].astype(np.float32) / 255 - MEAN) / SD)
            noise = torch.arange(count, dtype=torch.float32).expand(len(some), count)
            found = model.eval()(pixel_values=some, noise=noise, output_hidden_states=True).hidden_states
            pooled.append([state[:, 1:].mean(1).numpy() for state in found[1:]])
    return {f"layer {i}": np.concatenate(layer) for i, layer in enumerate(zip(*pooled, strict=True))}


def encoder_of(folder: Path) -> Any:
    """The encoder of a folder, without what draws the hidden patches."""
    from transformers import ViTMAEModel

    from basewise.engine.networks import quiet

    with quiet():
        return ViTMAEModel.from_pretrained(folder, local_files_only=True)


def twin_of(folder: Path, seed: int) -> Any:
    """The network of a folder with random weights."""
    import torch
    from transformers import ViTMAEConfig, ViTMAEModel

    from basewise.engine.networks import quiet

    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        return ViTMAEModel(ViTMAEConfig.from_pretrained(folder, local_files_only=True))


def one_set(name: str, base: Path, progress: Progress) -> dict[str, Any]:
    """Curves of base, twin and pixels on one set, accuracies with all labels, and the labels saved."""
    from basewise.steps.pretrain_worth import set_path

    (train, labels), (test, truth) = read_pictures(set_path(name))
    kinds: dict[str, Callable[[np.ndarray], Features]] = {
        "base": partial(states, encoder_of(base)),
        "random weights": partial(states, twin_of(base, 0)),
        "pixels": lambda x: {"layer pixels": x.reshape(len(x), -1).astype(np.float32) / 255 - 0.5},
    }
    curves: dict[str, dict[str, Any]] = {}
    for kind, features in kinds.items():
        progress(len(curves), len(kinds), f"{name}: probe of {kind}")
        curves[kind] = curve(features(train), labels, features(test), truth)
    right = {kind: found["right"][-1].mean(0) for kind, found in curves.items()}
    return {
        "set": name,
        "n": len(truth),
        "draws": DRAWS,
        "method": "probe",
        "curves": {kind: {"sizes": c["sizes"], "errors": c["errors"]} for kind, c in curves.items()},
        "labels_saved": {kind: worth.saved_labels(curves["base"], curves[kind], kind) for kind in CONTROLS},
        **accuracies(right, len(labels)),
    }


def curve(features: Features, labels: np.ndarray, test: Features, truth: np.ndarray) -> dict[str, Any]:
    """Errors and which rows are right over nested label counts, as `worth.saved_labels` takes them."""
    from basewise.core.split import nested_subsets
    from basewise.engine.probe import fit_probe

    classes = int(labels.max()) + 1
    counts = worth.label_counts(len(labels), classes)
    rights = np.empty((len(counts), DRAWS, len(truth)), bool)
    for draw in range(DRAWS):
        for place, rows in enumerate(nested_subsets(labels, counts, draw)):
            some = {key: values[rows] for key, values in features.items()}
            fit = fit_probe(some.__getitem__, tuple(some), labels[rows], classes, draw)
            rights[place, draw] = fit.probe.logits(test.__getitem__).argmax(1) == truth
    return {"sizes": counts, "errors": (1 - rights.mean(2)).tolist(), "right": rights, "pool": len(labels)}


def accuracies(right: dict[str, np.ndarray], labels: int) -> dict[str, Any]:
    """Accuracy with all labels of each kind, the base's lead over both controls, paired, and the sentence that says so."""
    from basewise.stats.intervals import wilson
    from basewise.stats.paired import paired_bootstrap_difference

    def record(one: Any) -> dict[str, Any]:
        return {"estimate": one.estimate, "low": one.low, "high": one.high, "n": one.n}

    share = {kind: record(wilson(float(r.sum()), len(r))) for kind, r in right.items()}
    lead = {kind: record(paired_bootstrap_difference(right["base"], right[kind])) for kind in CONTROLS}
    said = [
        f"{100 * lead[kind]['estimate']:+.1f} points [{100 * lead[kind]['low']:+.1f}, {100 * lead[kind]['high']:+.1f}] on {kind}"
        for kind in CONTROLS
    ]
    own = share["base"]
    sentence = (
        f"With {labels:,} labelled images a probe reaches {100 * own['estimate']:.1f} %"
        f" [{100 * own['low']:.1f}, {100 * own['high']:.1f}] of {own['n']:,}: {' and '.join(said)}."
    )
    return {"accuracy": share, "lead": lead, "sentence": sentence}
