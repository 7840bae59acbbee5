"""The commands, each a few lines over the room that does it."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from raymlops.cli.border import JsonFlag, border, out, until_stopped
from raymlops.cli.models import models
from raymlops.cli.operate import doctor, down, jobs, status, submit, up
from raymlops.cli.predict import predict
from raymlops.telemetry import say
from raymlops.values import JsonValue, Renewal

__all__ = ["app", "main"]

app = typer.Typer(
    help="The production loop of machine learning on one Ray cluster. Exit codes: 0 done, 1 it ran and failed, "
    "2 the input was wrong, 3 something it needs is missing.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
app.add_typer(models, name="models")
app.add_typer(jobs, name="jobs")
for _command in (submit, up, down, status, doctor, predict):
    app.command()(_command)

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec, a YAML file.")]
Model = Annotated[str | None, typer.Option(help="A version, as NAME@3 or NAME@champion; else the champion.")]
On = Annotated[str | None, typer.Option(help="A window of data.windows, or FROM/TO; else the one that the spec names.")]


def main() -> None:
    """Run the command line; usage errors exit with 2."""
    sys.exit(app(standalone_mode=True))


@app.command()
def demo(
    spec: Annotated[Path, typer.Argument(metavar="[SPEC]")] = Path("jobs/flights.yaml"),
    cpus: Annotated[int | None, typer.Option(help="CPUs of the cluster; else all of this machine.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the main job end to end on real data: train, register, optimize, score, serve, compare, monitor, retrain."""
    from raymlops.cli.demo import run

    with border(as_json=as_json):
        result, text = run(spec, cpus=cpus)
        out(result, as_json=as_json, text=text)


@app.command()
def check(spec: SpecPath, as_json: JsonFlag = False) -> None:
    """Check the spec and the data's schema before a machine is asked for; all errors at once."""
    from raymlops import train
    from raymlops.spec import load

    with border(as_json=as_json):
        contract = train.check(load(spec))
        label = contract.label
        text = f"{spec}: fine. {len(contract.features)} features, label {label.name!r} ({label.task})"
        out({"spec": str(spec), "contract": contract.to_json()}, as_json=as_json, text=text)


@app.command()
def train(
    spec: SpecPath,
    model: Annotated[
        str | None, typer.Option(help="No sweep: fit the trainer and parameters of this version again.")
    ] = None,
    how: Annotated[
        Renewal, typer.Option(help="Of --model: fitted again, adapted by weights, continued, or joined with --member.")
    ] = "again",
    member: Annotated[list[str] | None, typer.Option(metavar="NAME@V", help="What --model is joined with.")] = None,
    on: On = None,
    validate: Annotated[str | None, typer.Option(help="Window to judge on; else the one that the spec names.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Sweep, register the best model of each trainer, make the best of all the champion."""
    _stage(
        "train",
        spec,
        {"model": model, "how": how, "members": member or [], "on": on, "validate": validate},
        as_json=as_json,
    )


@app.command()
def optimize(spec: SpecPath, model: Model = None, as_json: JsonFlag = False) -> None:
    """Try the engines of the spec and choose the fastest one within the budget."""
    _stage("optimize", spec, {"model": model}, as_json=as_json)


@app.command()
def score(
    spec: SpecPath,
    model: Model = None,
    on: On = None,
    period: Annotated[
        str | None,
        typer.Option(help="FROM/TO in ISO 8601, what `${period}` in the spec stands for; else the last that ended."),
    ] = None,
    redrive: Annotated[
        bool, typer.Option("--redrive", help="Only the rows that the last run left dead, found again by data.key.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Score a table; the same command after a stop goes on where it was."""
    _stage("score", spec, {"model": model, "on": on, "redrive": redrive}, period=period, as_json=as_json)


@app.command()
def serve(spec: SpecPath, model: Model = None, as_json: JsonFlag = False) -> None:
    """Serve the model by the Open Inference Protocol; without `raymlops up`, until Ctrl-C."""
    _stage("serve", spec, {"model": model}, as_json=as_json)


@app.command()
def monitor(spec: SpecPath, model: Model = None, on: On = None, as_json: JsonFlag = False) -> None:
    """Compare scored rows with training, period by period: metric, drift of each feature."""
    _stage("monitor", spec, {"model": model, "on": on}, as_json=as_json)


def _stage(stage: str, spec: Path, options: dict[str, Any], *, as_json: bool, period: str | None = None) -> None:
    from raymlops.cli.stages import run_stage

    def told(result: dict[str, JsonValue]) -> None:
        out(result, as_json=as_json, text=_outputs(stage, result))

    with border(as_json=as_json):
        blocked = []

        def served(result: dict[str, JsonValue]) -> None:
            blocked.append(True)
            told(result)
            say("serving until Ctrl-C")
            until_stopped()

        result = run_stage(stage, spec, options=options, period=period, served=served if stage == "serve" else None)
        if not blocked:
            told(result)


def _outputs(stage: str, result: dict[str, JsonValue]) -> str:
    outputs = result.get("outputs")
    return "\n".join(f"{stage}: {output}" for output in outputs) if isinstance(outputs, list) else stage
