"""The command line: exit codes, messages and JSON, as a script sees them. Without Ray."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _run(*words: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAYMLOPS_HOME": str(home), "RAY_AUTH_MODE": "token", **variables}
    return subprocess.run([sys.executable, "-m", "raymlops", *words], cwd=ROOT, env=environment, text=True,
                          capture_output=True, timeout=120, check=False)  # fmt: skip


@pytest.fixture
def csv_spec(tmp_path: Path) -> Path:
    lines = ["id,size,colour,kind"]
    lines += [f"{i},{i % 7 + (i % 3) * 0.5},{'red' if i % 2 else 'blue'},{'abc'[(i % 7) // 3]}" for i in range(600)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"""
name: kinds
data:
  source: {{csv: {tmp_path}/rows.csv}}
  label: kind
  key: [id]
  trusted: [size]
train: {{trainers: {{xgboost: {{trials: 2, options: {{rounds: 10}}}}}}}}
""")
    return spec


def test_five_mistakes_end_with_2_and_start_nothing(tmp_path: Path) -> None:
    spec = tmp_path / "wrong.yaml"
    spec.write_text("nam: a\ndata: {source: {cvs: x}, label: y, featurs: [a]}\ntrain: {trainers: {xgbost: {}}}\n"
                    "serve: {port: 99999}\n")  # fmt: skip
    done = _run("train", str(spec), home=tmp_path / "home")
    assert done.returncode == 2
    assert len([line for line in done.stderr.splitlines() if line.startswith(f"error: {spec}:")]) >= 5
    assert not (tmp_path / "home").exists()


def test_check_prints_the_contract_as_json(csv_spec: Path, tmp_path: Path) -> None:
    done = _run("check", str(csv_spec), "--json", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    contract = json.loads(done.stdout)["contract"]
    assert contract["label"] == {"name": "kind", "task": "multiclass", "classes": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("  features: [size, color]", "column 'color' is not in the data; did you mean 'colour'?"),
        ("  features: [size, kind]", "'kind' is the label"),
        ("  contract: {colour: {type: number}}", "colour"),
    ],
    ids=["missing column", "label as feature", "wrong type"],
)
def test_data_that_does_not_fit_ends_with_2_and_is_named(
    csv_spec: Path, tmp_path: Path, edit: str, message: str
) -> None:
    csv_spec.write_text(csv_spec.read_text().replace("  key: [id]", f"  key: [id]\n{edit}"))
    done = _run("check", str(csv_spec), home=tmp_path / "home")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr


def test_a_word_that_is_no_command_ends_with_2(tmp_path: Path) -> None:
    assert _run("trian", home=tmp_path).returncode == 2
    assert _run("submit", "trian", "jobs/flights.yaml", home=tmp_path).returncode == 2


def test_no_cluster_at_the_address_ends_with_3_within_ten_seconds(csv_spec: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    done = _run("submit", "train", str(csv_spec), "--address", f"http://127.0.0.1:{port}", home=tmp_path / "home")
    assert done.returncode == 3, done.stderr
    assert str(port) in done.stderr
    assert time.monotonic() - start < 10


def test_an_ambient_address_that_contradicts_is_refused(csv_spec: Path, tmp_path: Path) -> None:
    done = _run("submit", "train", str(csv_spec), "--address", "http://127.0.0.1:1", home=tmp_path / "home",
                RAY_ADDRESS="http://10.0.0.1:8265")  # fmt: skip
    assert done.returncode == 2
    assert "RAY_ADDRESS" in done.stderr


def test_a_model_that_is_not_there_ends_with_2_and_an_endpoint_with_3(csv_spec: Path, tmp_path: Path) -> None:
    done = _run("models", "show", "nothing", home=tmp_path / "home")
    assert done.returncode == 2
    assert "is not registered" in done.stderr
    done = _run("predict", "kinds", "--rows", str(tmp_path / "rows.csv"), "--url", "http://127.0.0.1:1",
                home=tmp_path / "home")  # fmt: skip
    assert done.returncode == 3


def test_status_without_a_cluster_says_so_and_down_does_nothing(tmp_path: Path) -> None:
    assert json.loads(_run("status", "--json", home=tmp_path).stdout) == {"dashboard": None, "up": False}
    assert json.loads(_run("down", "--json", home=tmp_path).stdout) == {"stopped": False}


@pytest.mark.parametrize(
    "command",
    ["demo", "check", "train", "optimize", "score", "serve", "monitor", "submit", "jobs", "models", "predict", "up",
     "down", "status", "doctor"],
)  # fmt: skip
def test_every_command_has_a_help(command: str, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from raymlops.cli import app

    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert "Usage" in done.output


def test_the_border_passes_an_exit_code_on_and_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    from raymlops.cli.border import border

    with pytest.raises(typer.Exit) as caught, border(as_json=True):
        raise typer.Exit(3)
    assert caught.value.exit_code == 3
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("submit score SPEC --once", "--once and --since are for `submit score` of a spec with score.every"),
        ("score SPEC --period 2026-11-25/2026-11-24", "--period: '2026-11-25/2026-11-24': FROM is not before TO"),
    ],
    ids=["no schedule", "no period"],
)
def test_a_time_that_a_spec_does_not_have_ends_with_2(csv_spec: Path, tmp_path: Path, words: str, message: str) -> None:
    done = _run(*words.replace("SPEC", str(csv_spec)).split(), home=tmp_path / "home")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_a_redrive_without_a_key_ends_with_2(csv_spec: Path, tmp_path: Path) -> None:
    csv_spec.write_text(csv_spec.read_text().replace("  key: [id]\n", ""))
    done = _run("score", str(csv_spec), "--redrive", home=tmp_path / "home")
    assert (done.returncode, "data.key: not given" in done.stderr) == (2, True), done.stderr
