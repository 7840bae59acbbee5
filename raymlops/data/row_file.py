"""One small file of rows, as a person hands it to a command. Knows nothing of sources or windows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from raymlops.data.sources.csv import Csv
from raymlops.errors import DataError

__all__ = ["read_rows"]


def read_rows(path: Path) -> pa.Table:
    """Return the rows of a .parquet, .csv, .json (a list of objects) or .jsonl file."""
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
        if path.suffix == ".csv":
            nulls = list(Csv(path=str(path)).nulls)
            options = pa_csv.ConvertOptions(null_values=nulls, strings_can_be_null=True)
            return pa_csv.read_csv(path, convert_options=options)
        if path.suffix == ".jsonl":
            return pa_json.read_json(path)
        if path.suffix == ".json":
            import orjson

            return pa.Table.from_pylist(orjson.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as rows: {error}") from error
    raise DataError(f"{path}: ending {path.suffix!r} given, allowed are .parquet, .csv, .json, .jsonl")
