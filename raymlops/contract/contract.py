"""The contract as a value, and as JSON. Knows nothing of where rows come from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from raymlops.values import Task

__all__ = ["Contract", "Feature", "Label"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """What one feature may hold.

    ``minimum`` and ``maximum`` are enforced where given; ``observed`` is the range of the training rows, None for
    categories, and is never enforced: values outside it are drift, not errors. Categories are encoded as their
    index in ``categories``; an unknown one is refused or, if ``unknown`` is "missing", taken as missing.
    """

    name: str
    type: Literal["number", "integer", "boolean", "category"]
    nullable: bool
    minimum: float | None = None
    maximum: float | None = None
    observed: tuple[float, float] | None = None
    categories: tuple[str, ...] = ()
    unknown: Literal["reject", "missing"] = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What is predicted; ``classes`` are the texts of the values in their encoded order, empty for regression."""

    name: str
    task: Task
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """Features in the order of the matrix, the label, and the columns that name a row."""

    features: tuple[Feature, ...]
    label: Label
    key: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features, in the order of the matrix."""
        return tuple(feature.name for feature in self.features)

    @property
    def category_counts(self) -> tuple[int, ...]:
        """For each feature the number of its categories, 0 for a number."""
        return tuple(len(feature.categories) for feature in self.features)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `from_json` gives the same contract back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote, also after a trip through JSON text."""
        features = tuple(
            Feature(
                **{
                    **feature,
                    "categories": tuple(feature["categories"]),
                    "observed": tuple(feature["observed"]) if feature["observed"] else None,
                }
            )
            for feature in value["features"]
        )
        label = Label(**{**value["label"], "classes": tuple(value["label"]["classes"])})
        return cls(features=features, label=label, key=tuple(value["key"]))
