"""A project's folder that was moved or copied: the addresses in its database follow it.

MLflow keeps where artifacts lie as absolute addresses, so that in a moved folder old models are not found and new ones go to a re-created
old folder (mlflow issues 3144 and 4400).
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

# Every column of MLflow's tables that may hold an address below the artifacts' folder.
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)


def follow(database: Path, experiment: str, artifacts: Path) -> bool:
    """Let all addresses below the experiment's artifacts begin with `artifacts`; whether any did not. All or nothing.

    Only a folder of that name has moved; whoever keeps artifacts elsewhere, as a server does, has them still there. Raises
    `sqlite3.Error`.
    """
    if not database.exists():
        return False
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "experiments" not in tables:
            return False
        row = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", (experiment,)).fetchone()
        new = artifacts.as_uri()
        if row is None or row[0] == new or not re.fullmatch(rf"(file:|/).*/{re.escape(artifacts.name)}", row[0]):
            return False
        for table, column in _ADDRESSES:
            if table not in tables:
                continue
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (new, len(row[0]) + 1, row[0], len(row[0]) + 1, f"{row[0]}/"),
            )
    return True
