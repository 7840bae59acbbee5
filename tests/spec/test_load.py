"""A spec is read whole or refused with every mistake, each with its line, its place and the right word."""

from pathlib import Path

import pytest

from raymlops.errors import SpecError
from raymlops.plugins import kind_names
from raymlops.spec import load, parse

GOOD = """
name: iris
data:
  source: {csv: rows.csv}
  label: species
train:
  trainers:
    xgboost: {trials: 2, space: {max_depth: {integers: [2, 4]}}}
"""


def _problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse(text, name="s.yaml")
    return list(caught.value.problems)


def test_a_small_spec_is_enough_and_has_honest_defaults() -> None:
    spec = parse(GOOD)
    assert spec.serve.host == "127.0.0.1"
    assert spec.data.windows == {"train": 0.6, "valid": 0.2, "production": 0.2}
    assert spec.train.trainers["xgboost"].trials == 2


def test_a_window_is_named_once_and_beside_other_mistakes() -> None:
    problems = _problems(
        """
name: iris
data:
  source: {csv: rows.csv}
  label: species
  colour: 1
  windows: {first: often, then: 0.2}
train:
  trainers: {xgboost: {}}
  on: frist
"""
    )
    assert [line.split(",")[0] for line in problems] == [
        "s.yaml:6: data.colour: unknown key",
        "s.yaml:7: data.windows.first: is a share in (0",
        "s.yaml:8: train.validate: 'valid' is not in data.windows (first",
        "s.yaml:10: train.on: 'frist' is not in data.windows (first",
    ]


def test_all_that_does_not_fit_together_in_a_section_is_said() -> None:
    problems = _problems(GOOD.replace("label: species", "label: species\n  features: [a, a, species]\n  exclude: [a]\n"
                                      "  windows: {train: 0.9, valid: 0.2}"))  # fmt: skip
    assert [line.split(": ", 1)[1] for line in problems] == [
        "data.features: 'a' is also in data.exclude (unknown when predicting); drop one",
        "data.features: 'a' is named 2 times",
        "data.features: 'species' is the label; take it out of features",
        "data.windows: the shares add up to 1.1, more than 1",
    ]


def test_five_mistakes_are_five_messages_with_places() -> None:
    problems = _problems(
        """
nam: iris
data:
  source: {cvs: rows.csv}
  label: species
  featurs: [a]
train:
  trainers:
    xgbost: {trials: 2}
serve: {port: 99999}
"""
    )
    assert problems[1] == (
        "s.yaml:2: nam: unknown key; did you mean 'name'?, known are name, data, train, registry, optimize, score, "
        "serve, monitor, submit"
    )
    kinds = ", ".join(kind_names("raymlops.data.sources"))
    assert f"s.yaml:4: data.source: unknown kind 'cvs', known are {kinds}; did you mean 'csv'?" in problems
    assert any(line.startswith("s.yaml:6: data.featurs: unknown key; did you mean 'features'?") for line in problems)
    assert any("train.trainers: unknown kind 'xgbost'" in line and "'xgboost'?" in line for line in problems)
    assert any(line.startswith("s.yaml:10: serve.port:") and "99999" in line for line in problems)
    assert problems[0] == "s.yaml:1: name: is missing"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("xgboost: {trials: 0}", "train.trainers.xgboost.trials"),
        ("xgboost: {space: {max_dept: {integers: [2, 4]}}}", "did you mean 'max_depth'?"),
        ("xgboost: {space: {max_depth: {integers: [4, 2]}}}", "holds nothing"),
        ("xgboost: {space: {max_depth: {log: [-1, 2]}}}", "has no logarithm"),
        ("xgboost: {space: {max_depth: {uniform: [1, 2], log: [1, 2]}}}", "uniform and log given"),
        ("xgboost: {options: {rounds: many}}", "train.trainers.xgboost.rounds"),
        ("xgboost: {options: {round: 3}}", "did you mean 'rounds'?"),
    ],
    ids=["no trial", "unknown option", "empty range", "log of a negative", "two ranges", "wrong type", "typo"],
)
def test_a_wrong_search_space_is_refused(change: str, message: str) -> None:
    text = GOOD[: GOOD.index("    xgboost")] + "    " + change
    assert message in "\n".join(_problems(text))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("features: [a, species]", "'species' is the label"),
        ("features: [a, b]\n  exclude: [b]", "'b' is also in data.exclude"),
        ("windows: {train: 0.8, valid: 0.8}", "add up to 1.6"),
        ("windows: {train: [2020-01-01, 2020-02-01], valid: [2020-02-01, 2020-03-01]}", "needs `data.time`"),
        ("time: t\n  windows: {train: [2020-02-01, 2020-01-01], valid: [2020-02-01, 2020-03-01]}", "is not before"),
        ("windows: {fit: 0.5, valid: 0.5}", "train.on: 'train' is not in data.windows (fit, valid)"),
    ],
    ids=["label as feature", "excluded feature", "shares over 1", "no time column", "backwards", "missing window"],
)
def test_data_that_cannot_work_is_refused_before_it_is_read(data: str, message: str) -> None:
    text = GOOD.replace("  label: species", f"  label: species\n  {data}")
    assert message in "\n".join(_problems(text))


def test_an_open_port_needs_keys() -> None:
    assert "serve.keys" in "\n".join(_problems(GOOD + "serve: {host: 0.0.0.0}\n"))
    assert parse(GOOD + "serve: {host: 0.0.0.0, keys: keys.txt}\n").serve.keys == "keys.txt"


def test_a_key_given_twice_is_refused() -> None:
    assert _problems(GOOD + "name: other\n") == ["s.yaml:9: name: given twice; keep one"]


def test_on_and_no_are_words_and_not_booleans() -> None:
    spec = parse(GOOD.replace("label: species", "label: no\n  windows: {on: 0.5, valid: 0.5}") + "  on: on\n")
    assert (spec.data.label, spec.train.on) == ("no", "on")


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "a: !!python/object:os.system x"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert _problems(text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nothing\.yaml: cannot be read"):
        load(tmp_path / "nothing.yaml")


def test_the_spec_of_the_demo_is_fine() -> None:
    assert load(Path(__file__).parents[2] / "jobs" / "flights.yaml").name == "flights"


def test_a_name_that_reads_as_a_version_is_refused_under_its_key() -> None:
    assert _problems(GOOD.replace("name: iris", "name: '12'")) == [
        "s.yaml:2: name: a name of digits only would be read as a version, '12' given"
    ]
