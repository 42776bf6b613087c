"""A table as Parquet, with types; written in pieces."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from charpy.errors import SpecError
from charpy.reports.table import Table

PIECE = 4096
"""Rows that are held at once."""


def check_parquet() -> None:
    """Refuse where pyarrow is not installed.

    Raises:
        SpecError: naming the extra.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as cause:
        raise SpecError(
            "Parquet needs the package pyarrow",
            where="--format parquet",
            found=cause,
            hint="pip install 'charpy[data]', or leave parquet out: --format csv",
        ) from None


def write_parquet(table: Table[Any], path: Path) -> None:
    """Columns of int64, float64, bool and UTF-8 text; texts as they are, without what a spreadsheet needs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"text": pa.string(), "whole": pa.int64(), "number": pa.float64(), "yes or no": pa.bool_()}
    schema = pa.schema([pa.field(column.name, types[column.kind]) for column in table.columns])
    rows = iter(table.rows)
    with pq.ParquetWriter(path, schema) as writer:
        while piece := list(itertools.islice(rows, PIECE)):
            columns = [
                pa.array([_value(column.value(row)) for row in piece], field.type)
                for column, field in zip(table.columns, schema, strict=True)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def _value(value: Any) -> Any:
    """A lone surrogate cannot be UTF-8; it becomes an escape."""
    return value.encode("utf-8", errors="backslashreplace").decode("utf-8") if isinstance(value, str) else value
