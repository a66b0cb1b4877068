"""adapt: one base and one method, without a race; the controls without a base run beside it.

It is `choose` with a single arm: the same folds, evidence, test look, predictor and report, so that the numbers of both
can be put side by side.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from basewise.core.decision import Decision
from basewise.core.errors import InputError
from basewise.core.method import check_compatible
from basewise.core.registry import part
from basewise.steps import bases as base_steps
from basewise.steps.choose import ChooseOptions, choose


def adapt(
    source: Any,
    *,
    method: str = "probe",
    base: str | None = "minilm-l6",
    target: str | None = None,
    budget: str | float = "1h",
    to: str | Path | None = None,
    seed: int = 0,
    options: ChooseOptions | None = None,
) -> Decision:
    """Fit one method (a key) on one base (a name; ignored by methods that need none) and prove it.

    source, target, to, seed, options: as for `choose`. Returns the Decision; `folder` holds the predictor, which is the arm that was
    asked for even where the verdict is that a control does as well. Raises InputError when the base does not provide what the
    method requires, with the methods that fit it, and BudgetError when the budget does not hold it.
    """
    requires = part("methods", method).REQUIRES
    options = replace(options or ChooseOptions(), curves=False, asked=method)
    if not requires:
        return choose(
            source,
            target=target,
            budget=budget,
            bases=(),
            methods=(method,),
            to=to,
            seed=seed,
            options=options,
        )
    if base is None:
        raise InputError(f"the method {method} needs a base", "name one with --base")
    check_compatible(method, requires, base_steps.find(base))
    return choose(
        source,
        target=target,
        budget=budget,
        bases=(base,),
        methods=("majority", "words", method),
        to=to,
        seed=seed,
        options=options,
    )
