"""What the README says is there, is there."""

import re
from pathlib import Path

from typer.testing import CliRunner

from raymlops.cli import app
from raymlops.spec import Spec, parse

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_two_commands_are_targets_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.M)


def test_the_tree_names_every_folder_and_no_other() -> None:
    block = README[README.index("jobs/        thin") : README.index("## Your own model")]
    top = set(re.findall(r"^(\w+)/ ", block, flags=re.M))
    rooms = set(re.findall(r"^  (\w+)/ ", block, flags=re.M))
    assert top == {"jobs", "cluster", "raymlops", "tests", "benchmarks"}
    assert rooms == {path.parent.name for path in (ROOT / "raymlops").glob("*/__init__.py")}


def test_every_command_in_the_readme_exists() -> None:
    commands = set(re.findall(r"(?:^    |`)raymlops ([a-z]+)", README, flags=re.M))
    assert len(commands) >= 6
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command


def test_the_example_spec_is_fine() -> None:
    block = re.search(r"```yaml\n(.*?)```", README, flags=re.S)
    assert block is not None
    assert parse(block.group(1)).name == "churn"


def test_the_reference_of_the_spec_is_complete_and_true() -> None:
    for section, field in Spec.model_fields.items():
        if section == "name":
            continue
        for key, value in field.annotation.model_fields.items():  # type: ignore[union-attr]
            name = value.alias or key
            row = next((line for line in README.splitlines() if line.startswith(f"| `{section}.{name}` |")), "")
            assert row.endswith(f"| {value.description} |"), f"{section}.{name}: {value.description}"
    named = set(re.findall(r"^\| `(\w+)\.(\w+)`", README, flags=re.M))
    known = {(section, value.alias or key) for section, field in Spec.model_fields.items() if section != "name"
             for key, value in field.annotation.model_fields.items()}  # type: ignore[union-attr]  # fmt: skip
    assert named == known
