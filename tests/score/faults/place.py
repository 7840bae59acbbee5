"""A place to score in from outside: a home with a regression, rows in files, the command, and the plain loop beside it.

Knows nothing of what goes wrong.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
import xgboost

from raymlops import registry
from raymlops.codec import dumps
from raymlops.contract import infer
from raymlops.data import read_answers, read_scores
from raymlops.train.trainers.xgboost import Xgboost
from raymlops.values import Examples
from tests.score.faults.sitecustomize import VARIABLE, Fault, arm

__all__ = ["Place", "prepare"]

COLOURS = ("blue", "green", "red")
DEAD = 5  # rows of the fourth file with an unknown colour


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """`folder` holds `home`, `rows` and a spec for each sink; `model` is the file that the plain loop loads."""

    folder: Path
    model: Path
    rows: int

    @property
    def home(self) -> Path:
        """The home of every command here."""
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        """What a cluster and the commands on it need so that `fault` reaches them."""
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""), str(Path(__file__).parents[3])]
        return {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "RAYMLOPS_HOME": str(self.home),
            "RAY_AUTH_MODE": "token",
            VARIABLE: str(self.folder / "fault.json"),
        }

    def fault(self, fault: Fault) -> None:
        """Let the next process that comes to it do what the fault says."""
        arm(self.folder / "fault.json", fault)

    def fault_waits(self) -> bool:
        """Return whether nobody came to the fault yet."""
        return (self.folder / "fault.json").exists()

    @property
    def notes(self) -> list[str]:
        """What the processes noted of slow steps."""
        path = self.folder / "fault.notes"
        return path.read_text().splitlines() if path.exists() else []

    def score(self, sink: str, more: str = "", source: str = "", **environment: str) -> "subprocess.Popen[str]":
        """Start `raymlops score` into a sink of this name; `more` are further options of `score` in the spec."""
        source = source or f"{{parquet: {self.folder}/rows}}"
        (self.folder / f"{sink}.yaml").write_text(f"""
name: m
data: {{source: {{parquet: {self.folder}/rows}}, label: y, key: [id]}}
train: {{trainers: {{xgboost: {{}}}}}}
score: {{source: {source}, sink: {{parquet: {{path: {self.folder}/{sink}}}}}{more}}}
""")
        return subprocess.Popen(
            [sys.executable, "-m", "raymlops", "score", f"{sink}.yaml"], cwd=self.folder, text=True,
            env={**os.environ, **self.environment, **environment}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def seen(self, sink: str) -> int:
        """Return how many rows a reader of the sink's folder sees."""
        out = self.folder / sink
        return int(pa.dataset.dataset(out, format="parquet").count_rows()) if out.exists() else 0

    def done(self, sink: str) -> int:
        """Return how many pieces are recorded of the run into a sink."""
        records = [path for path in self.home.glob("runs/m/*/plan.json") if f"{self.folder}/{sink}" in path.read_text()]
        return sum(len(path.read_bytes().splitlines()) for one in records for path in one.parent.glob("pieces-*.jsonl"))

    def check(self, sink: str) -> None:
        """Check that the run into a sink is what a plain loop gives: rows, order, accounting, dead letters."""
        (manifest,) = (self.folder / sink).glob("*/_manifest.json")
        record = self.home / "runs" / "m" / manifest.parent.name
        scores = read_scores(record)
        expected = self.plain_loop()
        assert read_answers(scores).select(expected.column_names).equals(expected)
        assert self.seen(sink) == expected.num_rows == self.rows - DEAD
        assert (scores.rows_in, scores.scored, scores.dead) == (self.rows, self.rows - DEAD, DEAD)
        assert pq.read_table(record / "dead").column("row").to_pylist() == [*range(DEAD)]

    def plain_loop(self) -> pa.Table:
        """Return key and answer of every good row as pyarrow and xgboost give them, in the order of the files."""
        booster, parts = xgboost.Booster(model_file=self.model), []
        for path in sorted((self.folder / "rows").iterdir()):
            rows = pq.read_table(path)
            rows = rows.filter(pc.is_in(rows.column("colour"), pa.array(COLOURS)))
            answers = booster.inplace_predict(_matrix(rows))
            parts.append(rows.select(["id"]).append_column("prediction", pa.array(answers, pa.float32())))
        return pa.concat_tables(parts)


def prepare(folder: Path, *, files: int, rows: int) -> Place:
    """Write files and register a model in a home below `folder`, which RAYMLOPS_HOME names already."""
    draw = np.random.default_rng(5)
    (folder / "rows").mkdir(parents=True)
    for index in range(files):
        table = pa.table({
            "id": np.arange(rows) + index * rows,
            "a": draw.normal(size=rows).astype(np.float32),
            "b": draw.uniform(-1, 1, size=rows),
            "colour": draw.choice(COLOURS, rows),
        })  # fmt: skip
        y = table.column("a").to_numpy() ** 2 + table.column("b").to_numpy()
        whole = table.append_column("y", pa.array(y))
        odd = ["mauve"] * DEAD + whole.column("colour").to_pylist()[DEAD:]
        pq.write_table(
            whole.set_column(3, "colour", pa.array(odd)) if index == 3 else whole,
            folder / "rows" / f"{index:03}.parquet",
        )
    fitted = Xgboost(rounds=8).fit(
        Examples(x=_matrix(whole), y=y), None, categories=(0, 0, 3), task="regression", classes=1, seed=0, threads=1
    )
    model = {
        "format": fitted.format,
        "task": "regression",
        "classes": 1,
        "features": 3,
        "categories": [0, 0, 3],
        "params": {},
    }
    contract = infer(whole, features=["a", "b", "colour"], label="y", key=["id"], task="regression")
    files_of = {**fitted.files, "model.json": dumps(model), "contract.json": dumps(contract.to_json())}
    digest, path = registry.store_folder(files_of)
    registry.promote(str(registry.register("m", digest=digest, path=path, run_id=None, tags={})))
    return Place(folder=folder, model=path / "model.ubj", rows=files * rows)


def _matrix(rows: pa.Table) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    colour = pc.index_in(rows.column("colour"), value_set=pa.array(COLOURS)).to_numpy()
    columns = [rows.column("a").to_numpy(), rows.column("b").to_numpy(), colour]
    return np.ascontiguousarray(np.column_stack(columns), dtype=np.float32)
