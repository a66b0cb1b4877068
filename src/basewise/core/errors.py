"""Every error a user can meet, as one tree; each says what was expected, what came, and the fix, in one line.

BasewiseError
├── InputError            the table, a column, a cell, an option
│   ├── TableError        the file or its shape
│   ├── TargetError       the target column and its classes
│   └── UnknownName       a name that is not in a registry, catalogue or table (nearest names are suggested)
├── BudgetError           a budget that cannot be read or cannot be kept
├── BaseUnavailable       the base is not here and cannot be fetched
│   └── SourceSilent      where it would come from does not answer, so nothing else can be fetched from there either
├── UnsafeWeights         pickles, remote code, a digest or a file that does not hold
├── LicenceRefused        terms that the user has not accepted or does not allow
├── RunError              a run folder that is in use, damaged or not writable
├── ReleaseRefused        a gate that does not let a decision out
├── ReleaseChanged        a release that is not what was released, byte for byte, or not by whom it should be
├── PredictorChanged      a saved predictor that no longer gives its golden answers
├── OutOfMemory           memory ran out even with the smallest batch
└── MissingExtra          an optional library is not installed

The command line prints `error: <message>` and exits with code 2 for each of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BasewiseError(Exception):
    """Base of all errors that a user can mend. `message` says what came, `fix` what to do about it."""

    exit_code = 2

    def __init__(self, message: str, fix: str = "") -> None:
        self.message, self.fix = " ".join(message.split()), " ".join(fix.split())
        super().__init__(f"{self.message}; {self.fix}" if self.fix else self.message)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # survives the way back from a worker process
        return type(self), (self.message, self.fix)


class InputError(BasewiseError):
    """Something the user gave cannot be used as it is."""


class TableError(InputError):
    """The file, its encoding or its shape."""


class TargetError(InputError):
    """The target column and its classes."""


class UnknownName(InputError):
    """A name that nothing here has."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> UnknownName:
        """`kind` in words ("column", "method"); the nearest known names go into the message."""
        names = sorted(str(k) for k in known)
        near = difflib.get_close_matches(name, names, n=2, cutoff=0.5) or names[:8]
        return cls(
            f"unknown {kind} {name!r}",
            f"did you mean {' or '.join(map(repr, near))}?" if near else "none exist",
        )


class BudgetError(BasewiseError):
    """A budget that cannot be read or cannot be kept."""


class BaseUnavailable(BasewiseError):
    """The base is not in the store and no source can bring it."""


class SourceSilent(BaseUnavailable):
    """The source of a base does not answer at all: no network, or a mirror that is down."""


class UnsafeWeights(BasewiseError):
    """Weights that are not what they claim to be, or that would run code."""


class LicenceRefused(BasewiseError):
    """A licence outside the allowed ones, or terms not accepted."""


class RunError(BasewiseError):
    """A run folder that is in use, damaged or not writable."""


class ReleaseRefused(BasewiseError):
    """A check of the gate failed and nobody answers for it."""


class ReleaseChanged(BasewiseError):
    """A release folder that was changed, is not whole, or does not carry the signature it should."""


class PredictorChanged(BasewiseError):
    """A saved predictor that does not give its golden answers again."""


class OutOfMemory(BasewiseError):
    """Memory ran out even with the smallest batch."""


class MissingExtra(BasewiseError):
    """An optional library is missing."""

    @classmethod
    def of(cls, library: str, extra: str) -> MissingExtra:
        return cls(f"{library} is not installed", f"pip install 'basewise[{extra}]'")
