"""The commands of the registry."""

from typing import Annotated, Any

import orjson
import typer

from raymlops.cli.border import JsonFlag, border, out
from raymlops.values import Version

__all__ = ["models"]

models = typer.Typer(help="The registry of models.", no_args_is_help=True)

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
    """Show what a version is: model, evaluation, lineage."""
    from raymlops import registry

    with border(as_json=as_json):
        version = registry.resolve(ref)
        parts = {name: orjson.loads((version.path / f"{name}.json").read_bytes())
                 for name in ("model", "evaluation", "lineage")}  # fmt: skip
        text = orjson.dumps({**_plain(version), **parts}, option=orjson.OPT_INDENT_2).decode()
        out({**_plain(version), **parts}, as_json=as_json, text=text)


@models.command()
def promote(ref: Ref, as_json: JsonFlag = False) -> None:
    """Make a version the champion; the present champion becomes `previous`."""
    from raymlops import registry

    with border(as_json=as_json):
        version = registry.promote(ref)
        out(_plain(version), as_json=as_json, text=f"{version} is the champion of {version.name}")


@models.command()
def rollback(name: str, as_json: JsonFlag = False) -> None:
    """Make the previous version the champion again."""
    from raymlops import registry

    with border(as_json=as_json):
        version = registry.rollback(name)
        out(_plain(version), as_json=as_json, text=f"{version} is the champion of {version.name}")


@models.command()
def verify(name: Annotated[str | None, typer.Argument()] = None, as_json: JsonFlag = False) -> None:
    """Check that every version is, byte for byte, what was registered."""
    from raymlops import registry

    with border(as_json=as_json):
        found = registry.listed(name)
        for version in found:
            registry.verify_folder(version.path, version.digest)
        out([_plain(version) for version in found], as_json=as_json, text=f"{len(found)} versions are as registered")


def _plain(version: Version) -> dict[str, Any]:
    return {"name": version.name, "version": version.number, "digest": version.digest, "path": str(version.path),
            "aliases": list(version.aliases)}  # fmt: skip
