"""A task on disk: task.json (what it is, no rows) beside rows.parquet, whose sha256 the JSON names."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from basewise.core.errors import RunError
from basewise.core.files import atomic_path, read_json, write_json
from basewise.core.hashing import sha256_file
from basewise.core.task import Examples, Finding, Task

TASK, ROWS = "task.json", "rows.parquet"
METADATA = "meta:"
FORMAT = 1


def save_task(task: Task, folder: Path | str) -> None:
    """Write rows.parquet, then task.json with its digest; each is whole or not there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, rows = Path(folder), task.rows
    columns = {
        "row_id": pa.array(rows.row_ids.astype(np.int64)),
        "text": pa.array(rows.texts, pa.large_string()),
        "label": pa.array(rows.labels.astype(np.int32)),
        "split": pa.array([str(s) for s in task.split], pa.string()),
        "group": pa.array(rows.groups.astype(np.int64)),
    }
    for name, values in task.metadata.items():
        columns[METADATA + name] = pa.array(values, pa.string())
    with atomic_path(folder / ROWS) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")
    write_json(
        folder / TASK,
        {
            "format": FORMAT,
            "name": task.name,
            "kind": task.kind,
            "inputs": list(task.inputs),
            "target": task.target,
            "classes": list(task.classes),
            "roles": task.roles,
            "split_how": task.split_how,
            "source": task.source,
            "rows": len(rows),
            "train": int((task.split == "train").sum()),
            "test": int((task.split == "test").sum()),
            "rows_sha256": sha256_file(folder / ROWS),
            "test_digest": task.test_digest(),
            "findings": [asdict(f) for f in task.findings],
        },
    )


def load_task(folder: Path | str) -> Task:
    """The task of a folder; RunError when a file is missing, damaged or the rows are not those that were saved."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(folder)
    if not (folder / TASK).exists():
        raise RunError(
            f"{folder} holds no task ({TASK} is missing)", "run `basewise audit` or `basewise choose` first"
        )
    saved = read_json(folder / TASK)
    try:
        if sha256_file(folder / ROWS) != saved["rows_sha256"]:
            raise RunError(
                f"{folder / ROWS} is not the file that {TASK} names", "run the audit again into a new folder"
            )
        table = pq.read_table(folder / ROWS)
        column = {name: table.column(name).to_pylist() for name in table.column_names}
        rows = Examples(
            texts=tuple(column["text"]),
            labels=np.array(column["label"], np.int64),
            row_ids=np.array(column["row_id"], np.int64),
            groups=np.array(column["group"], np.int64),
            classes=tuple(saved["classes"]),
            inputs=tuple(saved["inputs"]),
        )
        return Task(
            name=saved["name"],
            inputs=tuple(saved["inputs"]),
            target=saved["target"],
            rows=rows,
            split=np.array(column["split"]),
            split_how=saved["split_how"],
            source=saved["source"],
            roles=dict(saved["roles"]),
            findings=tuple(Finding(**{**f, "rows": tuple(f["rows"])}) for f in saved["findings"]),
            metadata={n[len(METADATA) :]: tuple(v) for n, v in column.items() if n.startswith(METADATA)},
            kind=saved["kind"],
        )
    except (OSError, KeyError, TypeError, pa.ArrowException) as error:
        raise RunError(
            f"the task in {folder} is damaged: {error!r}", "run the audit again into a new folder"
        ) from error
