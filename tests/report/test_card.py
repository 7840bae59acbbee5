"""The card is made of a version's own files, says nothing that is not there, and takes names of any kind."""

import re
from typing import Any

import pytest

from raymlops.report import card_html, card_markdown, card_of

EVIL = "<script>alert(1)</script>|`x`"


def files() -> dict[str, Any]:
    number = {"name": "age", "type": "integer", "nullable": True, "minimum": 0.0, "maximum": None,
              "observed": [18.0, 99.0], "categories": [], "unknown": "reject"}  # fmt: skip
    text = {**number, "name": EVIL, "type": "category", "nullable": False, "minimum": None, "observed": None,
            "categories": [EVIL, "b"]}  # fmt: skip
    return {
        "model": {"format": "xgboost", "trainer": "xgboost", "params": {"rounds": 3}, "seed": 7},
        "contract": {"features": [number, text],
                     "label": {"name": "churned", "task": "binary", "classes": ["no", "yes"]}},
        "evaluation": {
            "metric": "auc", "value": 0.7, "on": "valid", "rows": 1300, "metrics": {"auc": 0.7, "logloss": 0.5},
            "intervals": {"auc": [0.7, 0.68, 0.72]},
            "periods": {"2020-01": {"rows": 1234, "auc": 0.6, "interval": None}},
            "slices": [
                {"name": "age [18, 40)", "rows": 600, "interval": [0.8, 0.7, 0.9]},
                {"name": f"{EVIL} = {EVIL}", "rows": 600, "interval": [0.6, 0.5, 0.7]},
                {"name": "age missing", "rows": 3, "interval": None},
            ],
        },
        "lineage": {"spec": {"data": {"source": {"csv": "a"}, "windows": {"train": 0.6}}}, "rows": {"train": 5000},
                    "fitted_on": "train", "code": "c" * 64, "python": "3.11", "packages": {},
                    "manifest": {"digest": "d" * 64, "held": [{"name": "a.csv"}]}},
    }  # fmt: skip


def made(**more: Any) -> dict[str, Any]:
    journal = [
        {"time": "2026-01-01T00:00:00.000+00:00", "who": "ada", "what": "approved", "alias": "champion", "why": EVIL}
    ]
    given: dict[str, Any] = {
        "digest": "e" * 64,
        "size_bytes": 2_000,
        "engine": "native",
        "origin": None,
        "journal": journal,
    }
    return card_of("churn", 4, files(), **{**given, **more})


def test_the_weakest_slice_comes_first_and_one_that_says_nothing_is_left_out() -> None:
    names = [one["name"] for one in made()["slices"]]
    assert names == [f"{EVIL} = {EVIL}", "age [18, 40)"]


@pytest.mark.parametrize("render", [card_html, card_markdown])
def test_what_people_wrote_is_shown_and_never_run(render: Any) -> None:
    text = render(made())
    assert "<script>" not in text
    assert "alert(1)" in text
    assert "0.7000 (0.6800 to 0.7200)" in text
    assert "1,234 rows" in text.replace("\n", " ")
    assert "18 to 99" in text
    assert "at least 0" in text


def test_a_table_of_markdown_has_as_many_cells_in_every_row() -> None:
    tables = re.findall(r"(?:^\|.*\|\n)+", card_markdown(made()), flags=re.M)
    assert len(tables) == 4
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_the_page_takes_nothing_from_elsewhere() -> None:
    text = card_html(made())
    assert not re.search(r"(?:src|href)=|@import|url\(|https?:", text)


def test_what_is_not_known_is_not_said() -> None:
    bare = files()
    bare["evaluation"] = {
        key: bare["evaluation"][key] for key in ("metric", "value", "on", "rows", "metrics", "periods")
    }
    bare["lineage"] = {}
    given: Any = {"digest": "e", "size_bytes": 1, "engine": "native", "origin": None, "journal": []}
    card = card_of("old", 1, bare, **given)
    assert card["metrics"]["auc"] == [0.7, None, None]
    for text in (card_html(card), card_markdown(card)):
        assert "No slice has rows enough to say." in text
        assert "0.7000" in text
