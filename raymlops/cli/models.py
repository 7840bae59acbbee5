"""The commands of the registry."""

from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from raymlops.cli.border import JsonFlag, border, out
from raymlops.errors import SpecError, StageFailed
from raymlops.values import Version

if TYPE_CHECKING:
    from raymlops.registry import Entry

__all__ = ["models"]

models = typer.Typer(help="The registry of models.", no_args_is_help=True)

Why = Annotated[str, typer.Option(help="The reason, for the journal.")]
Expected = Annotated[str | None, typer.Option(metavar="NAME@V", help="Only if this is the champion now.")]
Ref = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="As flights, flights@3 or flights@champion.")]


@models.command("list")
def list_(name: Annotated[str | None, typer.Argument()] = None, as_json: JsonFlag = False) -> None:
    """List the versions of a model, or of all models."""
    from raymlops import registry

    with border(as_json=as_json):
        found = registry.listed(name)
        lines = [f"{version!s:<24} {version.digest[:12]}  {', '.join(version.aliases)}" for version in found]
        out([_plain(version) for version in found], as_json=as_json, text="\n".join(lines) or "no model is registered")


@models.command()
def show(ref: Ref, as_json: JsonFlag = False) -> None:
    """Show what a version is and where it was made: model, evaluation, lineage, origin."""
    from raymlops import registry

    with border(as_json=as_json):
        version = registry.resolve(ref)
        parts = {name: orjson.loads((version.path / f"{name}.json").read_bytes())
                 for name in ("model", "evaluation", "lineage")}  # fmt: skip
        made = registry.origin_of(version)
        parts["origin"] = asdict(made) if made else None
        text = orjson.dumps({**_plain(version), **parts}, option=orjson.OPT_INDENT_2).decode()
        out({**_plain(version), **parts}, as_json=as_json, text=text)


@models.command()
def promote(ref: Ref, why: Why = "", expected: Expected = None, as_json: JsonFlag = False) -> None:
    """Make a version the champion; the present champion becomes `previous`."""
    from raymlops import registry

    with border(as_json=as_json):
        version = registry.promote(ref, why=why, expected=expected)
        out(_plain(version), as_json=as_json, text=f"{version} is the champion of {version.name}")


@models.command()
def rollback(name: str, why: Why = "", as_json: JsonFlag = False) -> None:
    """Make the previous version the champion again."""
    from raymlops import registry

    with border(as_json=as_json):
        version = registry.rollback(name, why=why)
        out(_plain(version), as_json=as_json, text=f"{version} is the champion of {version.name}")


@models.command()
def approve(
    ref: Ref,
    alias: Annotated[str, typer.Option(help="The alias that may move to it.")] = "champion",
    why: Why = "",
    as_json: JsonFlag = False,
) -> None:
    """Agree that a version becomes the champion, where more than one must; who agrees last promotes it."""
    from raymlops import registry

    with border(as_json=as_json):
        told = registry.approve(ref, alias=alias, why=why)
        out({"approval": told}, as_json=as_json, text=told)


@models.command()
def key(file: Annotated[Path, typer.Argument(help="A new file.")], as_json: JsonFlag = False) -> None:
    """Make a key to sign by; show its public half, which the access file names. Then: export RAYMLOPS_KEY=FILE."""
    from raymlops import registry

    with border(as_json=as_json):
        public = registry.new_key(file)
        out({"key": public, "file": str(file)}, as_json=as_json, text=public)


@models.command()
def sign(ref: Ref, as_json: JsonFlag = False) -> None:
    """Sign a version that was registered before there was an access file."""
    from raymlops import registry

    with border(as_json=as_json):
        version = registry.resolve(ref)
        registry.sign(version)
        out(_plain(version), as_json=as_json, text=f"{version} is signed")


@models.command()
def verify(name: Annotated[str | None, typer.Argument()] = None, as_json: JsonFlag = False) -> None:
    """Check that versions are, byte for byte, as registered and signed, and that the journal is whole and true."""
    from raymlops import registry

    with border(as_json=as_json):
        found = registry.listed(name)
        for version in found:
            registry.check_loaded(registry.fetched(version))
            registry.origin_of(version)
        for model in dict.fromkeys(version.name for version in found):
            registry.check_aliases(model)
        out([_plain(version) for version in found], as_json=as_json, text=f"{len(found)} versions are as registered")


@models.command()
def diff(before: Ref, after: Ref, as_json: JsonFlag = False) -> None:
    """Show what two versions differ in: parameters, metrics, rows, features, packages."""
    from raymlops import registry

    with border(as_json=as_json):
        found = registry.diff(registry.resolve(before), registry.resolve(after))
        wide = max((len(one.place) for one in found), default=0)
        lines = [f"{one.place:<{wide}}  {_short(one.before)} -> {_short(one.after)}" for one in found]
        out([asdict(one) for one in found], as_json=as_json, text="\n".join(lines) or "they are the same")


@models.command()
def rebuild(ref: Ref, as_json: JsonFlag = False) -> None:
    """Make a version again from its lineage, and say whether the bytes came again; exit 1 if they did not."""
    from raymlops import registry, train
    from raymlops.cli.stages import using_cluster

    with border(as_json=as_json):
        made = train.rebuild(registry.resolve(ref), on_cluster=partial(using_cluster, jobs=False))
        text = f"{made.version} is {made.verdict}"
        out({**asdict(made), "verdict": made.verdict}, as_json=as_json, text=text)
        if made.files:
            raise StageFailed(text)


@models.command()
def card(
    ref: Ref,
    html: Annotated[Path | None, typer.Option(help="Write it here as HTML.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write it here as Markdown; else it is printed.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the card of a version: how well it does, where it is weak, what it takes, how it was made, who decided."""
    from raymlops import registry, report
    from raymlops.codec import write_aside
    from raymlops.engine import chosen

    with border(as_json=as_json):
        version = registry.resolve(ref)
        parts = ("model", "contract", "evaluation", "lineage")
        made = registry.origin_of(version)
        told = report.card_of(
            version.name,
            version.number,
            {name: orjson.loads((version.path / f"{name}.json").read_bytes()) for name in parts},
            digest=version.digest,
            size_bytes=sum(path.stat().st_size for path in version.path.iterdir() if path.suffix != ".json"),
            engine=chosen(version)[0],
            origin=asdict(made) if made else None,
            journal=[asdict(one) for one in registry.history(version.name) if one.version == version.number],
        )
        for path, text in ((html, report.card_html), (markdown, report.card_markdown)):
            if path is not None:
                write_aside(path.resolve(), text(told).encode())
        written = [str(path) for path in (html, markdown) if path is not None]
        out(told, as_json=as_json, text="\n".join(written) or report.card_markdown(told))


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


@models.command()
def journal(
    name: str,
    as_of: Annotated[str | None, typer.Option(metavar="TIME", help="As it was then: ISO 8601, in UTC.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what became of a model: who did what, when and why; with --as-of also where its aliases stood."""
    from raymlops import registry

    with border(as_json=as_json):
        entries = registry.history(name, until=_moment(as_of))
        lines = [
            f"{one.number:>5}  {one.time[:19]}Z  {one.who:<24} {_told(one)}{f'  ({one.why})' if one.why else ''}"
            for one in entries
        ]
        stood = registry.aliases_at(entries)
        if as_of:
            lines.append("".join(f"\n{alias} was {name}@{number}" for alias, number in sorted(stood.items())))
        value = {"entries": [asdict(one) for one in entries], "aliases": stood}
        out(value, as_json=as_json, text="\n".join(lines) or f"nothing is written of {name}")


def _told(entry: "Entry") -> str:
    if entry.what == "approved":
        return f"approved {entry.version} as {entry.alias}"
    if entry.what != "alias":
        return f"{entry.what} {entry.version}"
    return f"{entry.alias}: {entry.before or 'nowhere'} -> {entry.version or 'nowhere'}"


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise SpecError(f"--as-of: {text!r} given; a moment in ISO 8601 is needed, such as 2026-01-31T12:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _plain(version: Version) -> dict[str, Any]:
    return {"name": version.name, "version": version.number, "digest": version.digest, "path": str(version.path),
            "aliases": list(version.aliases)}  # fmt: skip
