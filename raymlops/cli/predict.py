"""`raymlops predict`: a file of rows through the Python client."""

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from raymlops.cli.border import JsonFlag, border, out

__all__ = ["predict"]


def predict(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's name in the endpoint's URL.")],
    rows: Annotated[Path, typer.Option(help="A file of rows: .parquet, .csv, .json or .jsonl.")],
    url: Annotated[str, typer.Option(help="The endpoint.")] = "http://127.0.0.1:8000",
    version: Annotated[str | None, typer.Option(help="A version; else the one that is served.")] = None,
    key: Annotated[str | None, typer.Option(envvar="RAYMLOPS_KEY", help="The API key, if the endpoint asks.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Answer the rows of a file; one JSON object a row on standard output."""
    from raymlops.client import Client
    from raymlops.data import read_rows

    with border(as_json=as_json):
        table = read_rows(rows)
        with Client(url, key=key) as client:
            made = client.predict(name, table, version=version)
        answers = {column: list(values) for column, values in made.answers.items()}
        lines = [dict(zip(answers, row, strict=True)) for row in zip(*answers.values(), strict=True)]
        result: dict[str, Any] = {"model": made.model_name, "version": made.model_version, "answers": lines}
        text = "\n".join(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY).decode() for line in lines)
        out(result, as_json=as_json, text=text)
