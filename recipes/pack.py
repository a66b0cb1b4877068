"""Put a finished pretraining run into the package as a base: weights in bf16, tokenizer, card with its roles, README.

Run: python recipes/pack.py runs/basewise-tiny src/basewise/bases/basewise-tiny
A mixed run becomes two roles of the same weights: an encoder under the run's name, and a decoder under the name with "-gpt".
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from basewise.core.base import Card
from basewise.core.files import read_json, write_json, write_text
from basewise.core.hashing import sha256_file
from basewise.parts.sources import package

MOST_BYTES = 8_000_000


def card_text(card: dict[str, Any], record: dict[str, Any], worth: list[dict[str, Any]]) -> str:
    """The base's README: what it is, what it learned from, what it is worth."""
    bits = record["scores"]["bits_per_byte"]
    rows = "".join(
        f"| {s['name']} | {', '.join(s['licences'])} | {s['train']['documents']:,} | {', '.join(s['origins'])} |\n"
        for s in record["corpus"]["sources"]
    )
    held = "".join(
        f"| {name} | {v['estimate']:.2f} [{v['low']:.2f}, {v['high']:.2f}] | {v['n']} |\n"
        for name, v in bits.items()
    )
    saved = "".join(
        f"| {line['set']} | {factor(line, 'random weights')} | {factor(line, 'words')} | {line['n']:,} |\n"
        for line in worth
    )
    return (
        f"# {card['key']}\n\n{card['parameters']:,} weights, {card['layers']} layers of width {card['width']}, context"
        f" {card['context']}, {record['tokens']:,} tokens seen, {record['flop']:.2g} FLOP. Pretrained by recipes/{record['name']}.toml of"
        " this repository and packed by recipes/pack.py. Weights: Apache-2.0. English. It knows little and repeats what it read: it is"
        " made for tests, for work without a network and as the smallest base to start from, not for answers to people.\n\n"
        f"| source | licences | documents | origins |\n|---|---|---|---|\n{rows}\n"
        f"| held out | bits a byte [95 %] | documents |\n|---|---|---|\n{held}\n"
        "Labels saved by a probe on its states: how many times the labels the other needs for the same error.\n\n"
        f"| set | against the same network with random weights | against words | held-out rows |\n|---|---|---|---|\n{saved}"
    )


def factor(line: dict[str, Any], kind: str) -> str:
    """1.8 [0.9, open] at 64 labels."""
    value = line["labels_saved"].get(kind)
    if not value:
        return "not measured"
    if not value["told"]:
        return f"cannot be told at {value['at']:.0f} labels"
    ends = [f"{v:.1f}" if v is not None else "open" for v in (value["low"], value["high"])]
    least = "at least " if value.get("censored") else ""
    shown = "–" if value.get("factor") is None else f"{value['factor']:.1f}"
    return f"{least}{shown} [{', '.join(ends)}] at {value['at']:.0f} labels"


def main(run: Path, target: Path) -> None:
    """Convert, check the size, write."""
    from safetensors.torch import load_file, save_file

    target.mkdir(parents=True, exist_ok=True)
    record, result = read_json(run / "base" / "pretraining.json"), read_json(run / "pretrain.json")
    weights = {name: value.bfloat16() for name, value in load_file(run / "base" / package.WEIGHTS).items()}
    save_file(weights, target / package.WEIGHTS, metadata={"format": "pt"})
    if (size := (target / package.WEIGHTS).stat().st_size) > MOST_BYTES:
        raise SystemExit(f"{size:,} bytes of weights, at most {MOST_BYTES:,} go into the package")
    for name in package.SMALL_FILES:
        if (run / "base" / name).is_file():
            shutil.copyfile(run / "base" / name, target / name)
    known = read_json(run / "base" / "card.json")
    shared = {k: known[k] for k in ("parameters", "layers", "width", "context", "training_data")} | {
        "licence": "Apache-2.0",
        "download_bytes": 0,
    }
    roles = []
    for folder, key, family, provides in (
        ("encoder", target.name, "encoder", ["embed", "train"]),
        ("base", f"{target.name}-gpt", "decoder", ["embed", "generate", "score", "train"]),
    ):
        if (run / folder / "config.json").is_file():
            config = {**read_json(run / folder / "config.json"), "dtype": "bfloat16"}
            card = {
                "key": key,
                "source": "package",
                "fallback": True,
                "family": family,
                "provides": provides,
                "note": "pretrained here",
                **shared,
            }
            roles.append({"card": card, "config": config})
    write_json(target / "card.json", {"roles": roles})
    for role in roles:  # the digest of the file that the store will hold
        card = Card.from_dict({**role["card"], "locator": {"folder": target.name}})
        with tempfile.TemporaryDirectory() as place:
            role["card"]["weights_sha256"] = sha256_file(
                package.build(card, Path(place) / "base") / package.WEIGHTS
            )
    write_json(target / "card.json", {"roles": roles})
    write_text(target / "README.md", card_text(roles[0]["card"], record, result["worth"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
