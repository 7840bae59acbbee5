"""The page is one text of its own: nothing from outside, nothing unescaped, the same for the same input."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from raymlops.codec import dumps
from raymlops.report import ReportInput, page, report_input, write_page
from raymlops.spec import Spec

HOSTILE = "</text><script>alert('x')</script>\"'&$\\frac{$"


def _monitor(periods: list[str], *, feature: str = "size", metric: str = "auc", start: float = 0.7) -> dict[str, Any]:
    def entry(index: int, name: str) -> dict[str, Any]:
        drift = {"distance": 0.1 * index, "limit": 0.2, "drifted": index > 2, "note": ""}
        return {
            "period": name,
            "rows": 1_000 + index,
            "scored": 1_000,
            "labelled": 900,
            "metric": start - 0.01 * index,
            "rate": 0.2,
            "predicted": 0.21,
            "reason": "",
            "drift": {feature: {"psi": drift}, "other": {"psi": {**drift, "drifted": False}}},
            "drifted": [feature] if index > 2 else [],
        }

    found = [entry(index, name) for index, name in enumerate(periods)]
    return {"model": "toy@1", "run": "r", "metric": metric, "validation": 0.72, "periods": found, "outputs": []}


def _engine(name: str, verdict: str, **reading: Any) -> dict[str, Any]:
    return {"version": "toy@1", "engine": name, "options": {}, "verdict": verdict, **reading}


def _full(name: str = "toy", feature: str = "size") -> ReportInput:
    months = [f"2020-{month:02d}" for month in range(1, 7)]
    latency = {"1": {"p50_ms": 0.0213, "p99_ms": 0.0612}}
    reading = {"value": 0.7, "fall": 0.0, "difference": 1e-7, "latency": latency, "size_bytes": 841_000}
    trials = [
        {
            "index": i,
            "trainer": ("xgboost", "pytorch")[i % 2],
            "params": {"depth": i},
            "metrics": {"auc": 0.6 + i / 100},
        }
        for i in range(6)
    ]
    return ReportInput(
        name=name,
        monitor=_monitor(months, feature=feature),
        retrained=[
            {"model": "toy@2", "on": "recent", "periods": _monitor(months[4:], start=0.75)["periods"]},
            {
                "model": "toy@3",
                "on": feature,
                "periods": [{"period": months[5], "metric": 0.7}, {"period": "x", "metric": None}],
            },
        ],
        sweep={"metric": "auc", "winner": 4, "trials": [*trials, {**trials[0], "index": 6, "metrics": {}}]},
        optimize={
            "metric": "auc",
            "rows": 1,
            "budget": {"error": 0.001, "p99_ms": 50.0},
            "reason": "fastest within the budget",
            "table": [_engine("native", "chosen", **reading), _engine(feature, "cannot be built", problem="no")],
        },
        scores={"rows_in": 30, "scored": 20, "dead": 4, "filtered": 6},
        comparison={"rows": 2_000, "max_difference": 0.0, "bit_equal": True},
        places=[("the scores", "/home/me/scores"), (feature, "mlflow ui")],
        facts=[("wall time", "4 s")],
    )


class _Tags(HTMLParser):
    """Collect the tags and the attributes that load something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data")]


def _parsed(text: str) -> _Tags:
    parser = _Tags()
    parser.feed(text)
    return parser


def test_nothing_is_loaded_from_outside() -> None:
    text = page(_full())
    parsed = _parsed(text)
    assert "http" not in text
    assert "//" not in re.sub(r"<code>.*?</code>", "", text)
    assert "@import" not in text
    assert not parsed.tags & {"script", "link", "iframe", "img", "object", "embed"}
    assert all(target.startswith("#") for target in parsed.loaded)


def test_hostile_text_stays_text() -> None:
    parsed = _parsed(page(_full(name=HOSTILE, feature=HOSTILE)))
    assert "script" not in parsed.tags


def test_the_same_input_gives_the_same_text() -> None:
    assert page(_full()) == page(_full())


def test_every_drawing_finds_its_parts_and_no_id_is_used_twice() -> None:
    text = page(_full())
    ids = re.findall(r'\sid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert {target[1:] for target in _parsed(text).loaded} <= set(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)


def test_colours_follow_light_and_dark() -> None:
    drawings = re.findall(r"<svg.*?</svg>", page(_full()), flags=re.DOTALL)
    assert len(drawings) == 6
    assert not [color for drawing in drawings for color in re.findall(r"#[0-9a-fA-F]{6}\b", drawing)]


@pytest.mark.parametrize("part", ["monitor", "retrained", "sweep", "optimize", "scores", "comparison"])
def test_a_part_that_is_missing_is_left_out(part: str) -> None:
    missing: dict[str, Any] = {part: () if part == "retrained" else None}
    text = page(replace(_full(), **missing))
    assert "None" not in text
    assert len(text) < len(page(_full()))


def test_a_page_of_nothing_is_a_page() -> None:
    assert "<h1>toy</h1>" in page(ReportInput(name="toy"))


def test_a_period_without_a_metric_breaks_the_line_and_is_a_dash() -> None:
    monitor = _monitor(["2020-01", "2020-02", "2020-03"])
    monitor["periods"][1] |= {"metric": None, "rate": None, "reason": "no label yet"}
    text = page(ReportInput(name="toy", monitor=monitor))
    assert "No label yet." in text
    assert "–" in text
    assert "nan" not in text.lower().replace("nance", "")


def test_without_any_label_there_is_no_curve_but_the_drift() -> None:
    monitor = _monitor(["2020-01"])
    monitor["periods"][0] |= {"metric": None, "rate": None, "predicted": None, "reason": "no label yet"}
    text = page(ReportInput(name="toy", monitor=monitor))
    assert "AUC is not known yet" in text
    assert text.count("<svg") == 2


def test_many_days_and_many_features_fit() -> None:
    monitor = _monitor([f"2020-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in range(90)], metric="rmse", start=9)
    for entry in monitor["periods"]:
        entry["drift"] = {f"feature_{i}": entry["drift"]["other"] for i in range(40)}
        entry["drifted"] = []
    text = page(ReportInput(name="toy", monitor=monitor))
    assert "16 calmer features are not shown" in text
    assert "90 periods as a table" in text
    assert "lower is better" in text


def test_the_winner_the_choice_and_the_account_are_said() -> None:
    text = page(_full())
    assert "Trial 4 won, xgboost with AUC 0.6400" in text
    assert "1 of them without a result" in text
    assert text.count('<tr class="chosen">') == 1
    assert "every answer is equal, bit for bit" in text
    assert "Fitted again on “recent” it is 0.745 against 0.655, mean of 2 periods." in text


def test_the_stages_results_make_the_page(tmp_path: Path) -> None:
    """The engines' metric and budget stand in the document that the stage wrote, not in what it returned."""
    full = _full()
    assert full.optimize is not None
    document = tmp_path / "engines.json"
    document.write_bytes(dumps({"metric": "auc", "rows": 1, "budget": {"error": 0.5, "p99_ms": 7.0}}))
    made = {**{key: full.optimize[key] for key in ("table", "reason")}, "outputs": [str(document)]}
    result = {
        "train": full.sweep,
        "optimize": made,
        "score": full.scores,
        "monitor": full.monitor,
        "again": list(full.retrained),
        "comparison": full.comparison,
        "seconds": 412.3,
        "peak_bytes": 3 * 2**30,
        "places": [("the page", "x.html")],
    }
    spec = Spec.model_validate(
        {"name": "toy", "data": {"source": "parquet", "label": "y"}, "train": {"trainers": {"xgboost": {}}}}
    )
    write_page(tmp_path / "page.html", spec, result)
    text = (tmp_path / "page.html").read_text()
    assert text == page(report_input("toy", result))
    assert "p99 of one row at most 7 ms" in text
    assert "3.0 GiB" in text
