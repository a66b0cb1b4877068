"""The checks of an audit, each a function from the rows to findings: duplicates, leaks, noise, personal data, power."""

from __future__ import annotations

import numpy as np

from basewise.core.roles import Role
from basewise.core.task import Finding, Task


def check_all(task: Task, near: np.ndarray, roles: dict[str, Role], seed: int) -> list[Finding]:
    """Every check over all rows; near (n,) ids of near-duplicates."""
    return []
