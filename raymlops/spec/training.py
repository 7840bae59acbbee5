"""The section `train` of a spec: trainers, search, halving, folds. Each field's description is its documentation."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from raymlops.spec.section import Name, Section
from raymlops.spec.space import Distribution
from raymlops.values import JsonValue

__all__ = ["FoldsSpec", "HalvingSpec", "TrainSpec", "TrainerSpec"]

Metric = Literal["auc", "logloss", "accuracy", "rmse", "mae"]


class TrainerSpec(Section):
    """One family of models in the sweep."""

    trials: int = Field(1, ge=1, le=100_000, description="how many points of the space are tried")
    options: dict[str, JsonValue] = Field({}, description="fixed options of the trainer")
    space: dict[str, Distribution] = Field(
        {}, description="option: {uniform|log: [low, high]}, {integers: [low, high]} or {choice: [values]}"
    )


class HalvingSpec(Section):
    """Short trials first, and only the best of them longer: rung by rung."""

    factor: int = Field(3, ge=2, le=16, description="one of so many trials goes on, and is so many times longer")
    rungs: int = Field(3, ge=2, le=10, description="lengths that a trial may have")
    asynchronous: bool = Field(False, description="decide as trials end, without barriers; the sweep never repeats")


class FoldsSpec(Section):
    """Cross-validation within the window that is fitted on; trials are then compared by the mean of the folds."""

    count: int = Field(5, ge=2, le=100, description="folds; by time one more part, the first one only fitted on")
    by: Literal["key", "time"] = Field("key", description="rows at random, or each fold judged on what comes later")
    group: tuple[str, ...] = Field((), description="columns whose rows stay together; else data.key")
    gap_days: float = Field(0.0, ge=0, description="by time: days before a fold's judged rows that are not fitted on")

    @model_validator(mode="after")
    def _says_what_its_kind_has(self) -> Self:
        if self.by == "time" and self.group:
            raise ValueError("group: rows are kept together by: key; by: time takes them in their order")
        if self.by == "key" and self.gap_days:
            raise ValueError("gap_days: needs by: time")
        return self


def _count_alone(value: object) -> object:
    return {"count": value} if isinstance(value, int) and not isinstance(value, bool) else value


def _as_texts(value: object) -> object:
    """Name classes as the contract does: YAML reads `true` and `1` as a boolean and a number."""
    if not isinstance(value, dict):
        return value
    return {str(key).lower() if isinstance(key, bool) else str(key): weight for key, weight in value.items()}


ClassWeight = Annotated[float, Field(gt=0, le=1e6)]


class TrainSpec(Section):
    """The sweep: which trainers, over which space, judged by which metric."""

    trainers: dict[Name, TrainerSpec] = Field(min_length=1, description="TRAINER: {trials, options, space}")
    search: JsonValue = Field("random", description="which points are tried: `random`, `sobol`, `grid` or `tpe`")
    generation: int = Field(8, ge=1, le=10_000, description="trials that a search which looks back proposes at once")
    halving: HalvingSpec | None = Field(None, description="short trials first, only the best go on; else all in full")
    folds: Annotated[FoldsSpec, BeforeValidator(_count_alone)] | None = Field(
        None,
        description="cross-validation within `train.on`: a number, or {count, by: key or time, group, gap_days}",
    )
    class_weight: Annotated[Literal["balanced"] | dict[str, ClassWeight], BeforeValidator(_as_texts)] | None = Field(
        None, description="`balanced`, or CLASS: weight; else every row counts the same"
    )
    repeat: bool = Field(True, description="fit the winner twice, and say whether its bytes came again")
    metric: Metric | None = Field(None, description="else auc (binary), logloss (multiclass), rmse (regression)")
    on: Name = Field("train", description="window to fit on")
    validate_on: Name = Field("valid", alias="validate", description="window to judge on and to stop early by")
    seed: int = Field(0, ge=0, lt=2**32, description="root of every random number of the sweep")
    cpus_per_trial: int = Field(1, ge=1, description="threads of a trial; part of what makes it repeatable")

    workers: int = Field(
        1,
        ge=1,
        le=1024,
        description="processes that make each fit together, each of its share of rows",
    )

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="after")
    def _spreads_whole_windows(self) -> Self:
        if self.workers > 1 and self.folds is not None:
            raise ValueError("workers: rows of folds are not spread; take train.folds out, or leave train.workers at 1")
        return self
