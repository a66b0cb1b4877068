"""What a forward pass or a training step costs before it runs: tokens x parameters over what the machine can do.

FLOP = 2 x parameters of the blocks x tokens for a forward pass, three times that for training (Kaplan et al. 2020).
The shares of the machine's measured peak that training reaches were calibrated on two cores with MiniLM (384 wide) and MPNet
(768): wider matrices reach more of it. A forward pass is told in two parts, since what is beside its products (norms, gelu, attention,
copies) does not get faster where the products do: on a machine with a fivefold peak MiniLM takes half of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from basewise.core.base import Card
from basewise.core.method import Machine

LETTERS_PER_TOKEN = 4.2
SPECIAL_TOKENS = 2
PRODUCT_SHARE = 0.9
"""Of the peak, what the products of a forward pass reach."""
BESIDE = {"encoder": 1.7e-8, "decoder": 5e-8}
"""Seconds of a core a token, layer and column beside the products; decoders run as transformers has them, padded."""
ATTENDED = 4.8e-11
"""The same for each token that a token attends to."""
GPU_CORES = 500
"""Cores of this package's measurements whose memory a GPU's is as fast as, roughly; where there is one, the pass is short anyway."""
TRAIN_SHARE = 0.22
KEPT_SHARE = 0.35
"""In training without dropout on shares, whatever the width: attention then keeps them (`engine/attention.py`)."""
NARROW = 384
"""Width at which these shares hold."""
SOLVING_RATE = 85e9
"""FLOP/s a core of narrow products in fp32, on a machine whose wide ones reach twice as many."""
START_SECONDS = 0.3
PROCESS_BYTES = 600e6


def tokens_of(texts: Sequence[str], card: Card) -> np.ndarray:
    """(n,) estimated tokens a text, special tokens and the cut at the base's context included."""
    letters = np.fromiter((len(t) for t in texts), np.float64, len(texts))
    return np.minimum(letters / LETTERS_PER_TOKEN + SPECIAL_TOKENS, card.context)


def block_parameters(card: Card) -> float:
    """Parameters that every token passes: 12 width^2 a layer; token tables are only looked up."""
    return 12.0 * card.layers * card.width**2 if card.layers else 0.0


def peak(machine: Machine) -> float:
    """FLOP/s of the faster of fp32 and bf16."""
    return max(machine.fp32_peak, machine.bf16_peak)


def fp32_slowdown(machine: Machine) -> float:
    """How much longer fp32 takes than the faster precision; a peak measured on a busy machine is not believed."""
    return float(min(max(peak(machine) / machine.fp32_peak, 1.0), 2.5))


def solving_rate(machine: Machine) -> float:
    """FLOP/s of the products and eigenvectors behind a linear head: in fp32, and never more than memory feeds a core."""
    return min(machine.fp32_peak, SOLVING_RATE * machine.cores)


def reached(share: float, card: Card, machine: Machine) -> float:
    """FLOP/s that a network of this width is expected to reach, where one of width NARROW reaches `share` of the peak."""
    return share * float(np.clip(card.width / NARROW, 0.5, 2.5) ** 0.5) * peak(machine)


def encode_seconds(texts: Sequence[str], card: Card, machine: Machine) -> tuple[float, float, float]:
    """(seconds for all texts, seconds a text, FLOP) of computing features with length-sorted batches."""
    lengths = tokens_of(texts, card)
    tokens, pairs = float(lengths.sum()), float((lengths**2).sum())
    flop = 2.0 * block_parameters(card) * tokens + 2.0 * card.width * tokens
    cores = max(machine.cores, 1) if machine.device == "cpu" else GPU_CORES
    beside = card.layers * card.width * (BESIDE.get(card.family, 0.0) * tokens + ATTENDED * pairs)
    seconds = flop / (PRODUCT_SHARE * peak(machine)) + beside / cores + 4e-6 * tokens / max(machine.cores, 1)
    return START_SECONDS + seconds, seconds / max(len(texts), 1) + 1e-6, flop


def network_memory(card: Card) -> float:
    """Bytes of a process that holds the network for a forward pass (fp32 while loading, then bf16)."""
    return PROCESS_BYTES + 6.0 * card.parameters


def train_seconds(
    tokens: float, steps: int, card: Card, machine: Machine, share: float = 1.0, dropout: bool = True
) -> tuple[float, float]:
    """(seconds, FLOP) of training on `tokens` (padding included) in `steps`; `share` of the weights' gradients kept."""
    flop = 6.0 * block_parameters(card) * tokens
    optimiser = 60e-12 * card.parameters * share * 12.0
    speed = reached(TRAIN_SHARE, card, machine) if dropout else KEPT_SHARE * peak(machine)
    return START_SECONDS + flop / speed + steps * (optimiser + 0.006), flop


def train_memory(card: Card, tokens_at_once: float, share: float = 1.0) -> float:
    """Bytes: weights, gradients and Adam's two moments, and ~34 x width bytes x 2 a token and layer."""
    activations = 68.0 * card.width * max(card.layers, 1) * tokens_at_once
    return PROCESS_BYTES + card.parameters * (4.0 + 12.0 * share) + activations
