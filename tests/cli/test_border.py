"""Standard output holds the result and nothing else, whatever a library prints meanwhile."""

import json
import subprocess
import sys

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


def test_a_reader_that_has_heard_enough_is_no_error() -> None:
    command = (
        "import typer\n"
        "from raymlops.cli.border import border, out\n"
        "def command() -> None:\n"
        "    with border(as_json=False):\n"
        "        out({}, as_json=False, text='x' * 10**6)\n"
        "typer.run(command)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.read(1) == "x"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
