"""Cells as the strings that a CSV file would hold, whatever type the source gave them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import pyarrow as pa

MISSING_TYPES = ("NAType", "NaTType")
"""The pandas values for "not there", known by name since pandas is not imported."""

NUMPY_TRUTH = ("bool", "bool_")


def cells(column: Any) -> list[str | None]:
    """An Arrow array or chunked array as strings: null and NaN are None, 3.0 is "3", true is "true"."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = kind.value_type
    values = column.to_pylist()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return cast("list[str | None]", values)
    return [cell(v) for v in values]


def cell(value: Any) -> str | None:
    """One value as the string that a CSV file would hold."""
    if (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or type(value).__name__ in MISSING_TYPES
    ):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or type(value).__name__ in NUMPY_TRUTH:
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def join_inputs(row: Mapping[str, Any], inputs: Sequence[str]) -> str:
    """One text from a row's input columns: a single one as it is, several as "name: value" lines; a column that this row lacks is an
    empty cell."""
    return joined([cell(row.get(name)) or "" for name in inputs], inputs)


def joined(values: Sequence[str], inputs: Sequence[str]) -> str:
    """The text that `join_inputs` makes of one value a column."""
    if len(inputs) < 2:
        return values[0]
    return "\n".join(f"{name}: {value}" for name, value in zip(inputs, values, strict=True))


def split_inputs(text: str, inputs: Sequence[str]) -> list[str]:
    """One value a column from a text that `join_inputs` made; what stands in no column goes to the one before it, and a column that is
    not named is empty."""
    if len(inputs) < 2:
        return [text]
    rest, values = text.removeprefix(f"{inputs[0]}: "), []
    for name in inputs[1:]:
        # one more space, since that of an empty last value may have been stripped
        value, found, after = f"{rest} ".partition(f"\n{name}: ")
        values.append(value if found else rest)
        rest = after[:-1]
    return [*values, rest]


def apart(texts: Sequence[str], inputs: Sequence[str]) -> list[str]:
    """The n x k values of n texts that `join_inputs` made of k columns, row after row."""
    return [value for text in texts for value in split_inputs(text, inputs)]


def strings(values: Sequence[str | None], name: str, notes: list[str]) -> pa.Array:
    """An Arrow column of strings; halves of characters, which it cannot hold, are replaced and noted."""
    import pyarrow as pa

    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        mended = [None if v is None else whole(v) for v in values]
        broken = [i for i, (a, b) in enumerate(zip(values, mended, strict=True)) if a != b]
        notes.append(
            f"column {name!r} holds half a character in {len(broken):,} cells (row {broken[0] + 1} of its block first): read as \ufffd"
        )
        return pa.array(mended, pa.string())


def whole(text: str) -> str:
    """The text itself; where it holds half a character (a lone surrogate, left by a cut in JSON), which no file can hold, with U+FFFD
    there."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
