"""Standard output holds the result and nothing else, whatever a library prints meanwhile."""

import json

import pytest
import typer

from raymlops.cli.border import border, out
from raymlops.errors import NotFound


def test_what_a_library_prints_does_not_stand_in_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    with border(as_json=True):
        print("a worker died")
        out({"rows": 3}, as_json=True, text="3 rows")
        print("and another one")
    said = capsys.readouterr()
    assert json.loads(said.out) == {"rows": 3}
    assert said.err == "a worker died\nand another one\n"


def test_an_error_is_json_too_and_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught:
        failing()
    said = capsys.readouterr()
    assert caught.value.exit_code == 2
    assert json.loads(said.out) == {"error": ["model 'a': is not there"], "exit": 2}
    assert said.err == "a worker died\nerror: model 'a': is not there\n"


def failing() -> None:
    with border(as_json=True):
        print("a worker died")
        raise NotFound("model 'a': is not there")
