"""The card of a model's version: what it is, on what it was made and judged, how well it does, where it is weak.

Its parts are those of Mitchell and others (2019), "Model Cards for Model Reporting". It is made of the version's own
files and of the journal; knows nothing of where these lie.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raymlops.report import words

__all__ = ["card_html", "card_markdown", "card_of"]

_MOST_SLICES = 40
_LINEAGE = ("fitted_on", "code", "python", "packages", "renewed", "teacher")


def card_of(
    name: str,
    number: int,
    files: Mapping[str, Mapping[str, Any]],
    *,
    digest: str,
    size_bytes: int,
    engine: str,
    origin: Mapping[str, Any] | None,
    journal: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the card as plain values; ``files`` are model, contract, evaluation, lineage, profile, by name."""
    model, contract, evaluation, lineage = (files[part] for part in ("model", "contract", "evaluation", "lineage"))
    metric = evaluation["metric"]
    return {
        "name": name,
        "version": number,
        "digest": digest,
        "model": {
            "predicts": contract["label"]["name"],
            "task": contract["label"]["task"],
            "classes": contract["label"]["classes"],
            "trainer": model.get("trainer", model["format"]),
            "parameters": model["params"],
            "size_bytes": size_bytes,
            "engine": engine,
        },
        "use": [_limits(feature) for feature in contract["features"]],
        "data": {
            "source": lineage.get("spec", {}).get("data", {}).get("source"),
            "manifest": lineage.get("manifest"),
            "windows": [{"name": on, "rows": rows, "bounds": _bounds(lineage, on)}
                        for on, rows in lineage.get("rows", {}).items()],
        },
        "metric": metric,
        "judged_on": evaluation["on"],
        "rows": sum(told["rows"] for told in evaluation["periods"].values()),
        "metrics": {one: evaluation.get("intervals", {}).get(one, [value, None, None])
                    for one, value in evaluation["metrics"].items()},
        "folds": evaluation.get("folds", []),
        "periods": [{"name": period, "rows": told["rows"], "interval": told.get("interval")}
                    for period, told in evaluation["periods"].items()],
        "slices": _weakest(evaluation.get("slices", []), metric),
        "lineage": {"seed": model.get("seed"), **{word: lineage.get(word) for word in _LINEAGE}},
        "origin": origin and {
            **{word: origin[word] for word in ("commit", "cpu", "gpus")},
            "changes": bool(origin["diff"]),
            "packages": len(origin["packages"]),
        },
        "journal": [dict(entry) for entry in journal],
    }  # fmt: skip


def card_markdown(card: Mapping[str, Any]) -> str:
    """Return the card as Markdown; what people wrote is escaped."""
    return _rendered("card.md", card, escape=_markdown)


def card_html(card: Mapping[str, Any]) -> str:
    """Return the card as one HTML document: no script, no font or image from elsewhere."""
    return _rendered("card.html", card, escape=None)


def _rendered(template: str, card: Mapping[str, Any], *, escape: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=escape,
    )
    environment.filters.update(
        count=words.count, size=words.size, sure=_sure, metric=words.metric_name, short=lambda text: str(text)[:12]
    )
    return environment.get_template(template).render(card=card)


def _markdown(value: Any) -> str:
    text = str(value)
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _sure(found: Sequence[float | None] | None) -> str:
    """Return a value and its interval.

    >>> _sure([0.71234, 0.70111, 0.72345]), _sure([0.5, None, None]), _sure(None)
    ('0.7123 (0.7011 to 0.7235)', '0.5000', '–')
    """
    if found is None or found[0] is None:
        return "–"
    if found[1] is None or found[2] is None:
        return words.value(found[0])
    return f"{words.value(found[0])} ({words.value(found[1])} to {words.value(found[2])})"


def _limits(feature: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a feature may hold, and what it held."""
    bounds = (("at least", feature["minimum"]), ("at most", feature["maximum"]))
    observed = feature["observed"]
    return {
        "name": feature["name"],
        "type": feature["type"],
        "missing": "allowed" if feature["nullable"] else "refused",
        "allowed": feature["categories"] or [f"{word} {bound:g}" for word, bound in bounds if bound is not None],
        "observed": f"{observed[0]:.6g} to {observed[1]:.6g}" if observed else None,
    }


def _bounds(lineage: Mapping[str, Any], on: str) -> Any:
    return lineage.get("spec", {}).get("data", {}).get("windows", {}).get(on)


def _weakest(slices: Sequence[Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    """Return the slices, the weakest first; those that say nothing are left out."""
    sign = 1.0 if metric in ("auc", "accuracy") else -1.0
    told = [dict(one) for one in slices if one["interval"] is not None]
    return sorted(told, key=lambda one: (sign * one["interval"][0], one["name"]))[:_MOST_SLICES]
