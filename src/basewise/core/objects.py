"""Tables in memory as Arrow tables: frames, datasets, Arrow values, rows and columns, known by what they can do; nothing is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from basewise.core.cells import cell, strings
from basewise.core.errors import InputError, TableError
from basewise.core.rowfiles import check_header

if TYPE_CHECKING:
    import pyarrow as pa


def in_memory(source: Any) -> tuple[pa.Table, str, list[str], dict[str, tuple[str, ...]]]:
    """(table, what it is in words, notes, class names of columns of codes) of an object; InputError for one that is no table."""
    import pyarrow as pa

    names: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    what = type(source).__module__.partition(".")[0]
    try:
        if what == "datasets" and not hasattr(source, "__len__") and hasattr(source, "features"):
            raise InputError("a dataset that is read once came", "load it whole, without streaming=True")
        if isinstance(source, (pa.Table, pa.RecordBatch)):
            data = source if isinstance(source, pa.Table) else pa.Table.from_batches([source])
        elif isinstance(source, Mapping) and any(hasattr(v, "features") for v in source.values()):
            raise InputError(f"a dict of datasets ({', '.join(map(str, source))}) came", "give one of them")
        elif hasattr(source, "features") and hasattr(source, "with_format"):
            data, what = source.with_format("arrow")[:], "datasets"
            features = dict(source.features)
            names = {k: tuple(v.names) for k, v in features.items() if getattr(v, "names", None)}
        elif hasattr(source, "to_arrow") and hasattr(source, "columns"):
            data = _from_arrow_frame(source, notes)
        elif hasattr(source, "iloc") and hasattr(source, "columns"):
            check_header([str(c) for c in source.columns], "the frame")
            data = _from_pandas(source, notes)
        elif isinstance(source, Mapping):
            data = pa.table(
                {k: strings([cell(v) for v in c], k, notes) for k, c in columns_of(source).items()}
            )
        elif isinstance(source, Sequence) and all(isinstance(row, Mapping) for row in source):
            keys = list(dict.fromkeys(str(k) for row in source for k in row))
            data = pa.table({k: strings([cell(row.get(k)) for row in source], k, notes) for k in keys})
        else:
            raise InputError(
                f"a table was expected, {type(source).__name__} came",
                "collect it first"
                if hasattr(source, "collect")
                else "give a path, a frame or a list of dicts",
            )
    except (pa.ArrowException, ValueError) as error:
        raise TableError(f"the table cannot be read: {error}", "check its columns") from error
    where = {"builtins": "rows in memory", "pyarrow": "an Arrow table"}.get(what, f"a {what} object")
    return data, where, notes, names


def columns_of(mapping: Mapping[Any, Any]) -> dict[str, list[Any]]:
    """A dict of columns with its values as lists; InputError where one value stands for a column, as in a dict that is a row."""
    for name, values in mapping.items():
        if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
            raise InputError(
                f"a dict whose {str(name)!r} is one value came, a list of rows or a dict of columns was expected",
                "put the dict into a list",
            )
    return {str(name): list(values) for name, values in mapping.items()}


def _from_arrow_frame(frame: Any, notes: list[str]) -> pa.Table:
    """A frame that knows its Arrow form; a Polars column of Python objects has none but their addresses."""
    data = frame.to_arrow()
    for place, kind in enumerate(map(str, getattr(frame, "dtypes", ()))):
        if kind == "Object":
            name = data.column_names[place]
            data = data.set_column(place, name, strings([cell(v) for v in frame[name]], name, notes))
    return data


def _from_pandas(frame: Any, notes: list[str]) -> pa.Table:
    import pyarrow as pa

    columns = {}
    for place, name in enumerate(map(str, frame.columns)):
        values = frame.iloc[:, place]
        try:
            column = pa.Array.from_pandas(values)
            kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
            own = isinstance(kind, pa.BaseExtensionType)
        except (pa.ArrowException, TypeError, UnicodeEncodeError, OverflowError):
            own = True  # mixed types, halves of characters, numbers beyond 64 bits
        # ranges and periods have an Arrow type that only pandas can read
        columns[name] = strings([cell(v) for v in values], name, notes) if own else column
    return pa.table(columns)
