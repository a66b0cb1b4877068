"""What generated text may be: one of given choices, or text that a regular expression matches whole.

A constraint answers two questions about the text so far: may it be the beginning of an allowed text, and is it one.
A little white space before the first word is free, because tokens carry it; an expression may also ask for some of it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from basewise.core.errors import InputError
from basewise.engine.letters import letters_from


class Constraint(Protocol):
    """Which texts are allowed."""

    def begins(self, text: str, begun: bytes = b"") -> bool:
        """Whether an allowed text begins like this, and goes on with a letter that begins with the bytes `begun` (at most 3)."""

    def complete(self, text: str) -> bool:
        """Whether the text is allowed as it stands."""


class OneOf:
    """One of the choices; a choice that is empty or equal to another is an error."""

    def __init__(self, choices: Sequence[str]) -> None:
        self.choices = checked_choices(choices)

    def begins(self, text: str, begun: bytes = b"") -> bool:
        start = text.encode() + begun
        return any(choice.encode().startswith(start) for choice in self.choices)

    def complete(self, text: str) -> bool:
        return text in self.choices


PIECES = r"\\.|\[\^?\]?(?:\\.|[^]\\])*\]|\(\?[=!]|."
"""Of an expression: an escape, a set of letters, where a look-ahead begins, or another letter."""


class Matching:
    """Text that the expression matches whole. One that looks ahead is an error: every beginning of a text passes, and it never matches."""

    def __init__(self, expression: str) -> None:
        # a dependency of transformers; the standard library cannot tell beginnings of a match
        import regex

        try:
            self.expression: Any = regex.compile(expression)
        except regex.error as error:
            raise InputError(
                f"{expression!r} is no regular expression: {error}", "mend it, or give choices"
            ) from error
        ahead = {"(?=", "(?!"}.intersection(regex.findall(PIECES, expression, regex.DOTALL))
        if ahead or self.expression.flags & regex.REVERSE:
            raise InputError(
                f"{expression!r} looks {'ahead' if ahead else 'backwards'}, at what a growing text does not have yet",
                "say without (?=, (?! and (?r) what the text may be, or give choices",
            )
        # a first byte of four stands for 200,000 letters, and it is tried again at every refusal
        self._leads = functools.lru_cache(maxsize=256)(self._some_letter)

    def begins(self, text: str, begun: bytes = b"") -> bool:
        return self._leads(text, begun) if begun else self._starts(text)

    def _starts(self, text: str) -> bool:
        return self.expression.fullmatch(text, partial=True) is not None

    def _some_letter(self, text: str, begun: bytes) -> bool:
        return any(self._starts(text + letter) for letter in letters_from(begun))

    def complete(self, text: str) -> bool:
        return self.expression.fullmatch(text) is not None


def readings(text: str) -> Iterator[str]:
    """The text less all, some or none of the white space before its first word: how much of it is the constraint's own is open."""
    spaces = len(text) - len(text.lstrip())
    yield from (text[cut:] for cut in range(spaces, -1, -1))


def checked_choices(choices: Sequence[str]) -> tuple[str, ...]:
    """The choices without white space around them; InputError for fewer than two, empty ones and equal ones."""
    cleaned = tuple(choice.strip() for choice in choices)
    if len(cleaned) < 2:
        raise InputError(
            f"{len(cleaned)} choice came, at least two were expected", "separate choices by commas"
        )
    if "" in cleaned:
        raise InputError(
            f"choice {cleaned.index('') + 1} is empty", "give every choice a text, or leave it out"
        )
    for place, choice in enumerate(cleaned):
        if choice in cleaned[:place]:
            raise InputError(f"the choice {choice!r} occurs twice", "give every choice once")
    return cleaned


def constraint_of(choices: Sequence[str], expression: str) -> Constraint | None:
    """The constraint asked for, if any; both at once are an error."""
    if choices and expression:
        raise InputError("choices and a regular expression came", "give one of them")
    if choices:
        return OneOf(choices)
    return Matching(expression) if expression else None
