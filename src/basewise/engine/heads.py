"""Linear heads on fixed inputs: multinomial logistic regression, its path over strengths, and temperature scaling.

All methods that end in a linear layer (`words`, `probe`, `contrast`, the start of `full`) share this file. What is
unusual: dense inputs are first rotated onto their principal axes, which changes neither the solution nor its penalty,
makes the problem only min(rows, columns) wide, and gives L-BFGS (Nocedal & Wright, ch. 7) a good diagonal start, so
a fit takes tens of iterations instead of hundreds. Classes that have no row in a fold keep a small share of the
probability (Laplace), so log-losses stay finite. Sparse inputs of scipy work as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

MEMORY = 10
SMALL_FLOP = 3e7
ROUGH = 0.03
"""Share of the first gradient at which a fit from nothing takes the Hessian's diagonal anew."""
MANY_COLUMNS = 1024
"""Width from which on principal axes are computed in fp32, three times as fast."""


@dataclass(frozen=True)
class Head:
    """A linear head: weights (D, C), bias (C,), temperature, `present` (C,) classes it has seen, `floor` for the others."""

    weights: np.ndarray
    bias: np.ndarray
    present: np.ndarray
    floor: float
    temperature: float = 1.0

    def logits(self, design: Any) -> np.ndarray:
        """(n, C) log-probabilities before the temperature; rows of `design` (n, D) dense or sparse."""
        return with_floor(np.asarray(design @ self.weights, np.float64) + self.bias, self.present, self.floor)

    def probabilities(self, design: Any) -> np.ndarray:
        """(n, C) float64, after the temperature."""
        return softmax(self.logits(design) / self.temperature)

    def tensors(self, prefix: str = "head.") -> dict[str, np.ndarray]:
        """The head as named arrays for a safetensors file."""
        rest = np.array([self.floor, self.temperature], np.float64)
        parts = {
            "weights": self.weights,
            "bias": self.bias,
            "present": self.present.astype(np.uint8),
            "rest": rest,
        }
        return {prefix + name: np.ascontiguousarray(value) for name, value in parts.items()}

    @classmethod
    def of_tensors(cls, tensors: dict[str, np.ndarray], prefix: str = "head.") -> Head:
        """The inverse of `tensors`."""
        floor, temperature = (float(v) for v in tensors[prefix + "rest"])
        present = tensors[prefix + "present"].astype(bool)
        return cls(tensors[prefix + "weights"], tensors[prefix + "bias"], present, floor, temperature)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Row-wise softmax of (n, C) in float64."""
    values = np.exp(np.asarray(logits, np.float64) - logits.max(1, keepdims=True))
    return values / values.sum(1, keepdims=True)


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log p of the true class; p is kept above 1e-12."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())


def with_floor(logits: np.ndarray, present: np.ndarray, floor: float) -> np.ndarray:
    """Log-probabilities in which every absent class has the share `floor` and the present ones share the rest."""
    present = np.asarray(present, bool)
    if present.all():
        return logits - log_sum_exp(logits)[:, None]
    out = np.full(logits.shape, np.log(floor))
    seen = logits[:, present]
    out[:, present] = seen - log_sum_exp(seen)[:, None] + np.log1p(-floor * int((~present).sum()))
    return out


def log_sum_exp(logits: np.ndarray) -> np.ndarray:
    """(n,) stable log of the row sums of exp."""
    top = logits.max(1)
    return top + np.log(np.exp(logits - top[:, None]).sum(1))


# ---------------------------------------------------------------- rotation


@dataclass(frozen=True)
class Rotation:
    """Centre and principal axes of a dense matrix: `(x - centre) @ axes` has min(n, D) orthogonal columns."""

    centre: np.ndarray
    axes: np.ndarray
    energy: np.ndarray

    def unrotate(self, head: Head) -> Head:
        """The same head for the original columns."""
        weights = self.axes @ head.weights
        return replace(head, weights=weights, bias=head.bias - self.centre @ weights)


def rotate(x: np.ndarray) -> tuple[np.ndarray, Rotation]:
    """Principal-axes coordinates of x (n, D) as float32 (n, r), and the way back. Works on the smaller side."""
    n, width = x.shape
    with threads_for(float(n) * width * min(n, width)):
        return _rotate(x)


def _rotate(x: np.ndarray) -> tuple[np.ndarray, Rotation]:
    # its eigh and products use all threads on every platform
    import torch

    n, width = x.shape
    centre = x.mean(0, dtype=np.float64)
    # axes with next to no energy are noise in fp32, which a thousandfold margin leaves out; wide matrices are worth it
    single = MANY_COLUMNS <= width <= n
    kind, least, nothing = (np.float32, 1e-6, 1e-30) if single else (np.float64, 1e-9, 1e-300)
    rows = torch.from_numpy(np.subtract(x, centre, dtype=kind, casting="same_kind"))
    values, vectors = torch.linalg.eigh(rows.T @ rows if width <= n else rows @ rows.T)
    kept = values > values[-1].clamp(min=nothing) * least
    energy = values[kept].double().numpy()
    axes_ = vectors[:, kept] if width <= n else (rows.T @ vectors[:, kept]) / values[kept].sqrt()
    axes = axes_.numpy()
    # all rows are equal: one empty column keeps the shapes alive
    if axes.shape[1] == 0:
        axes, energy = np.zeros((width, 1), kind), np.zeros(1)
    turned = (rows @ torch.from_numpy(axes)).float().numpy()
    return turned, Rotation(centre, axes, energy / n)


# ---------------------------------------------------------------- the solver


@contextlib.contextmanager
def threads_for(flop: float) -> Iterator[None]:
    """One thread inside for operations of less than SMALL_FLOP: waking the others can take longer than the work itself,
    above all on a machine that is busy otherwise, where threads that wait for one another spin."""
    import torch

    before = torch.get_num_threads()
    if flop >= SMALL_FLOP or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def solve(
    design: Any,
    labels: np.ndarray,
    n_classes: int,
    strength: float,
    start: Head | None = None,
    energy: np.ndarray | None = None,
    tolerance: float = 1e-4,
    iterations: int = 300,
) -> Head:
    """Multinomial logistic regression: min of mean cross-entropy + |W|^2 / (2 n strength), the bias free.

    design (n, D) dense float32 or scipy sparse; labels (n,) in 0..C-1; `strength` is scikit-learn's C; `start` warms
    up; `energy` (D,) mean squares of the columns, for the diagonal start. Stops when the gradient's norm has fallen
    to `tolerance` of that at zero. Deterministic.
    """
    import torch

    labels = np.asarray(labels)
    n, width = design.shape
    present = np.bincount(labels, minlength=n_classes) > 0
    floor = 1.0 / (n + n_classes)
    seen = np.flatnonzero(present)
    count = len(seen)
    if count == 1:
        return Head(np.zeros((width, n_classes), np.float32), np.zeros(n_classes), present, floor)
    target = np.zeros((n, count), np.float32)
    target[np.arange(n), np.searchsorted(seen, labels)] = 1.0
    decay = 1.0 / (n * strength)
    if energy is None:
        squares = design.multiply(design).mean(0) if hasattr(design, "tocsr") else (design * design).mean(0)
        energy = np.asarray(squares, np.float64).ravel()
    problem = Problem(design, target, decay)
    theta = torch.zeros((width + 1, count))
    entries = n * width if isinstance(design, np.ndarray) else design.nnz
    with threads_for(4.0 * entries * count):
        scale = max(float(problem(theta)[1].norm()), 1e-12)
        if start is not None:
            theta[:-1] = torch.from_numpy(start.weights[:, seen])
            theta[-1] = torch.from_numpy(start.bias[seen])
        for goal in (tolerance,) if start is not None else (max(ROUGH, tolerance), tolerance):
            theta = _lbfgs(problem, theta, problem.inverse(theta, energy), goal * scale, iterations)
    theta = theta.numpy()
    weights, bias = np.zeros((width, n_classes), np.float32), np.zeros(n_classes)
    weights[:, seen], bias[seen] = theta[:-1], theta[-1]
    return Head(weights, bias, present, floor)


def sparse_products(design: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """(design @ x, design.T @ x) for float32 tensors x, of a scipy matrix (n, D): by torch and MKL, 2 to 4 times as fast on two
    cores, or by scipy where torch was built without it."""
    import warnings

    import torch

    made = design.tocsr(), design.T.tocsr()
    if not torch.backends.mkl.is_available():
        own, turned = made
        return (
            lambda x: torch.from_numpy(own @ x.contiguous().numpy()),
            lambda x: torch.from_numpy(turned @ x.contiguous().numpy()),
        )
    with warnings.catch_warnings():
        # torch calls its CSR matrices new
        warnings.simplefilter("ignore", UserWarning)
        own, turned = (
            torch.sparse_csr_tensor(
                *(torch.from_numpy(a) for a in (m.indptr, m.indices, m.data)), size=m.shape
            )
            for m in made
        )
    return own.__matmul__, turned.__matmul__


class Problem:
    """Called with theta (D + 1, C), a float32 tensor: penalised mean cross-entropy and its gradient."""

    def __init__(self, design: Any, target: np.ndarray, decay: float) -> None:
        import torch

        self.decay, self.target = decay, torch.from_numpy(target)
        if hasattr(design, "tocsr"):
            self.times, self.transposed_times = sparse_products(design)
        else:
            dense = torch.from_numpy(np.ascontiguousarray(design, np.float32))
            self.times, self.transposed_times = dense.__matmul__, dense.T.__matmul__

    def logs(self, theta: Any) -> Any:
        """(n, C) log-probabilities."""
        import torch

        return torch.log_softmax(self.times(theta[:-1]) + theta[-1], 1)

    def __call__(self, theta: Any) -> tuple[float, Any]:
        import torch

        weights, n, logits = theta[:-1], len(self.target), self.logs(theta)
        loss = -float((logits * self.target).sum(dtype=torch.float64)) / n
        residual = logits.exp_().sub_(self.target).div_(n)
        gradient = torch.empty_like(theta)
        torch.add(self.transposed_times(residual), weights, alpha=self.decay, out=gradient[:-1])
        gradient[-1] = residual.sum(0)
        return loss + 0.5 * self.decay * _dot(weights, weights), gradient

    def inverse(self, theta: Any, energy: np.ndarray) -> Any:
        """(D + 1, C) inverse of the Hessian's diagonal, from each class's mean p (1 - p) at `theta`.

        Near a solution that is far smaller than at zero, above all with many classes, which halves the iterations.
        """
        import torch

        shares, count = self.logs(theta).exp_(), theta.shape[1]
        spread = (shares - shares * shares).mean(0).clamp_(min=1e-2 / count)
        diagonal = torch.empty_like(theta)
        torch.outer(torch.from_numpy(np.asarray(energy, np.float32)), spread, out=diagonal[:-1])
        diagonal[:-1] += self.decay
        diagonal[-1] = spread
        return diagonal.reciprocal_()


def _lbfgs(objective: Problem, theta: Any, inverse: Any, goal: float, iterations: int) -> Any:
    """Limited-memory BFGS with a diagonal start and Armijo backtracking; float32 tensors, float64 scalars."""
    value, gradient = objective(theta)
    pairs: list[tuple[Any, Any, float]] = []
    for _ in range(iterations):
        if float(gradient.norm()) <= goal:
            break
        direction = _two_loop(gradient, pairs, inverse).neg_()
        slope = _dot(direction, gradient)
        # rounding spoilt the memory: start it again
        if slope >= 0:
            pairs, direction = [], -inverse * gradient
            slope = _dot(direction, gradient)
        step = 1.0
        for _ in range(20):
            candidate = theta.add(direction, alpha=step)
            new_value, new_gradient = objective(candidate)
            if new_value <= value + 1e-4 * step * slope:
                break
            step *= 0.5
        else:
            # float32 has no further decrease to give
            break
        moved, changed = candidate - theta, new_gradient - gradient
        curvature = _dot(moved, changed)
        if curvature > 1e-12 * float(moved.norm()) * float(changed.norm()):
            pairs = [*pairs, (moved, changed, 1.0 / curvature)][-MEMORY:]
        theta, value, gradient = candidate, new_value, new_gradient
    return theta


def _dot(a: Any, b: Any) -> float:
    return float(a.ravel().dot(b.ravel()))


def _two_loop(gradient: Any, pairs: list[tuple[Any, Any, float]], inverse: Any) -> Any:
    """The two-loop recursion: inverse Hessian estimate times `gradient`, a new tensor."""
    vector = gradient.clone()
    factors = []
    for moved, changed, inverse_curvature in reversed(pairs):
        factor = inverse_curvature * _dot(moved, vector)
        vector.sub_(changed, alpha=factor)
        factors.append(factor)
    vector.mul_(inverse)
    if pairs:
        _, changed, inverse_curvature = pairs[-1]
        vector.mul_(1.0 / (inverse_curvature * _dot(changed, changed * inverse)))
    for (moved, changed, inverse_curvature), factor in zip(pairs, reversed(factors), strict=True):
        vector.add_(moved, alpha=factor - inverse_curvature * _dot(changed, vector))
    return vector


# ---------------------------------------------------------------- choosing


def out_of_fold(
    design: Any,
    labels: np.ndarray,
    n_classes: int,
    strengths: Sequence[float],
    fold: np.ndarray,
    energy: np.ndarray | None = None,
    held_out: Sequence[int] | None = None,
    heads: dict[float, Head] | None = None,
) -> dict[float, np.ndarray]:
    """{strength: (n, C) logits of rows while held out}, warm-started from weak to strong fits.

    Only the folds in `held_out` (default all) are computed; other rows are NaN. `heads` is filled with those
    of the last fold, from which a fit on all rows can start.
    """
    out = {strength: np.full((len(labels), n_classes), np.nan) for strength in strengths}
    for k in held_out if held_out is not None else np.unique(fold[fold >= 0]):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        head, design_here, labels_here = None, design[train], labels[train]
        for strength in sorted(strengths):
            head = solve(
                design_here,
                labels_here,
                n_classes,
                strength,
                head,
                energy,
                tolerance=1e-3,
                iterations=100,
            )
            out[strength][test] = head.logits(design[test])
            if heads is not None:
                heads[strength] = head
    return out


def fit_temperature(logits: np.ndarray, labels: np.ndarray, prior: float = 2.0) -> float:
    """The temperature that minimises the log-loss of logits (n, C), by golden section on its logarithm.

    A weak normal prior on log T (worth `prior` rows) keeps tiny samples near 1 (Guo et al. 2017 for the scaling).
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        scaled = logits * np.exp(-log_t)
        return float((log_sum_exp(scaled) - scaled[rows, labels]).sum()) + prior * log_t * log_t

    low, high, golden = np.log(0.05), np.log(20.0), (np.sqrt(5.0) - 1.0) / 2.0
    a, b = high - golden * (high - low), low + golden * (high - low)
    loss_a, loss_b = loss(a), loss(b)
    for _ in range(40):
        if loss_a <= loss_b:
            high, b, loss_b = b, a, loss_a
            a = high - golden * (high - low)
            loss_a = loss(a)
        else:
            low, a, loss_a = a, b, loss_b
            b = low + golden * (high - low)
            loss_b = loss(b)
    return float(np.exp((low + high) / 2))
