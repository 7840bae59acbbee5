"""The sections of a spec, one model a top-level word. Each field's description is its documentation."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from raymlops.errors import SpecError
from raymlops.spec.cron import Cron
from raymlops.spec.period import Period, fill, in_utc, speaks_of_period
from raymlops.spec.section import Name, Section, SectionError
from raymlops.spec.training import TrainSpec
from raymlops.values import JsonValue, Task

__all__ = [
    "Budget",
    "DataSpec",
    "FeatureSpec",
    "MonitorSpec",
    "OptimizeSpec",
    "ScoreSpec",
    "ServeSpec",
    "Spec",
    "SubmitSpec",
    "Window",
    "unknown_windows",
]


def _share_or_span(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    """Say in one sentence what a window is, not once for each of its forms."""
    try:
        # A number would be read as seconds since 1970: [2013, 2014] is hardly meant so.
        if not (isinstance(value, list | tuple) and any(isinstance(bound, int | float) for bound in value)):
            return handler(value)
    except ValidationError:
        pass
    raise PydanticCustomError("window", "is a share in (0, 1] or [from, to), two dates or times")


Share = Annotated[float, Field(gt=0, le=1)]
Moment = Annotated[datetime, AfterValidator(in_utc)]
Window = Annotated[Share | tuple[Moment, Moment], WrapValidator(_share_or_span)]
# The options of `score` that a period is filled into, and one to try them with.
_PERIODIC = ("source", "on", "sink")
_SOME_PERIOD = Period(datetime(2000, 1, 1), datetime(2000, 1, 2))


class FeatureSpec(Section):
    """What the spec says of one feature over what the training data shows."""

    type: Literal["number", "integer", "boolean", "category"] | None = Field(None, description="else inferred")
    nullable: bool | None = Field(None, description="whether a missing value is allowed; else: if training has one")
    min: float | None = Field(None, description="smallest allowed value")
    max: float | None = Field(None, description="largest allowed value")
    categories: tuple[str, ...] | None = Field(None, description="allowed categories; else those of training")
    unknown: Literal["reject", "missing"] = Field("reject", description="what an unknown category is taken for")


class DataSpec(Section):
    """Rows with a label, the features that may be used, and the windows that split them."""

    source: JsonValue = Field(description="kind of source and its options, as `parquet: data/*.parquet`")
    prepare: str | None = Field(
        None, description="a Python script, run as `python SCRIPT TARGET` if the source's path does not exist"
    )
    label: str = Field(description="column to predict; a row without it is not used for training")
    task: Task | None = Field(None, description="else: two values are binary, text or few integers multiclass")
    key: tuple[str, ...] = Field((), description="columns that name a row")
    time: str | None = Field(None, description="date or timestamp column, for windows in time and for monitoring")
    features: tuple[str, ...] | None = Field(
        None, description="columns to predict from; else all but label, key, time and `exclude`"
    )
    exclude: tuple[str, ...] = Field((), description="columns that are never features: unknown when predicting")
    trusted: tuple[str, ...] = Field((), description="features that may predict the label all by themselves")
    windows: dict[Name, Window] = Field(
        default={"train": 0.6, "valid": 0.2, "production": 0.2},
        description="named parts of the rows: a share (by hash of the key) or [from, to) in `time`, UTC",
    )
    contract: dict[str, FeatureSpec] = Field({}, description="per feature, what overrides the inferred contract")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = [*self._odd_windows(), *self._odd_features()]
        if problems:
            raise SectionError(*problems)
        return self

    def window(self, on: str, *, where: str) -> Window:
        """Return the window of a name. FROM/TO, two moments in ISO 8601, is a window in `time` without one.

        SpecError, which names the place `where`: there is none.
        """
        if "/" not in on:
            problems = unknown_windows({where: on}, self.windows)
            if problems:
                raise SpecError(*problems)
            return self.windows[on]
        if self.time is None:
            raise SpecError(f"{where}: {on!r} needs `data.time`, the column to compare with")
        try:
            period = Period.parse(on)
        except ValueError as error:
            raise SpecError(f"{where}: {error}") from error
        return (period.start, period.end)

    def _odd_windows(self) -> Iterator[str]:
        shares = [w for w in self.windows.values() if isinstance(w, float)]
        if shares and len(shares) < len(self.windows):
            yield "windows: give all as shares or all as [from, to)"
        if sum(shares) > 1 + 1e-9:
            yield f"windows: the shares add up to {sum(shares):g}, more than 1"
        if not shares and self.windows and self.time is None:
            yield "windows: [from, to) needs `data.time`, the column to compare with"
        for name, window in self.windows.items():
            if isinstance(window, tuple) and window[0] >= window[1]:
                yield f"windows.{name}: {window[0]} is not before {window[1]}"

    def _odd_features(self) -> Iterator[str]:
        if self.features is not None and not self.features:
            yield "features: name at least one column to predict from, or leave it out to take all"
        for name, times in Counter(self.features).items():
            if times > 1:
                yield f"features: {name!r} is named {times} times"
            if name == self.label:
                yield f"features: {name!r} is the label; take it out of features"
            if name in self.exclude:
                yield f"features: {name!r} is also in data.exclude (unknown when predicting); drop one"


class RegistrySpec(Section):
    """What must hold before a version may answer."""

    approvals: int = Field(1, ge=1, le=9, description="people who must agree before a version becomes champion")
    protected: bool = Field(False, description="a sweep must start from a commit of git without changes")


class Budget(Section):
    """What an engine must keep to be chosen."""

    error: float = Field(1e-3, gt=0, description="largest allowed fall of the metric against the native engine")
    p99_ms: float = Field(50.0, gt=0, description="largest allowed p99 latency of one row, milliseconds")


class OptimizeSpec(Section):
    """Which engines are tried, and the budget that picks one."""

    engines: tuple[JsonValue, ...] = Field(
        ("native", "onnxruntime", {"onnxruntime": {"precision": "int8"}}), description="candidates, kind and options"
    )
    budget: Budget = Field(Budget(), description="`error`: largest allowed fall of the metric; `p99_ms`: of one row")
    distill: JsonValue | None = Field(None, description="trainer of a smaller model that learns its answers, a student")
    rows: int = Field(1, ge=1, le=65_536, description="rows a request for which the fastest engine is picked")


class ScoreSpec(Section):
    """Which rows are scored in a batch, and what the output carries beside the answers."""

    source: JsonValue | None = Field(None, description="else data.source")
    on: str | None = Field(
        None,
        description="window to score, or FROM/TO; else `production`, or all rows of score.source if it is given",
    )
    sink: JsonValue | None = Field(
        None, description="kind of sink and its options; else `parquet` in `$RAYMLOPS_HOME/scores/NAME`"
    )
    keep: tuple[str, ...] = Field((), description="columns passed through to the output, beside the key")
    max_dead_share: float = Field(0.01, ge=0, le=1, description="share of rows refused by the contract that stops")
    max_dead_rows: int | None = Field(None, ge=0, description="number of rows refused by the contract that stops")
    unreadable: Literal["fail", "quarantine"] = Field(
        "fail", description="what a file that cannot be read does: stop the run, or be left out and named"
    )
    workers: int | None = Field(None, ge=1, description="most processes that score side by side; else one a CPU")
    every: str | None = Field(
        None,
        description="schedule of `raymlops submit score SPEC`: `M H DAY MONTH WEEKDAY` of cron in UTC, or `daily`…",
    )
    catch_up: Literal["all", "last"] = Field(
        "all", description="which periods are scored that came due while nothing ran: each, or only the last one"
    )

    @field_validator("every")
    @classmethod
    def _is_cron(cls, every: str | None) -> str | None:
        try:
            if every is not None:
                Cron(every).check()
        except ValueError as error:
            raise PydanticCustomError("cron", "{cause}", {"cause": str(error)}) from error
        return every

    @model_validator(mode="after")
    def _speaks_of_periods_it_has(self) -> Self:
        problems = [
            f"{name}: ${{period…}} needs `score.every`, which says what a period is"
            for name in _PERIODIC
            if self.every is None and speaks_of_period(getattr(self, name))
        ]
        try:
            self.in_period(_SOME_PERIOD)
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise SectionError(*problems)
        return self

    def in_period(self, period: Period) -> Self:
        """Return the section with a period filled in where it speaks of one."""
        filled = {}
        for name in _PERIODIC:
            try:
                filled[name] = fill(getattr(self, name), period)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return self.model_copy(update=filled)


class BatchingSpec(Section):
    """How requests of a model are computed together."""

    most_rows: int = Field(64, ge=1, description="rows of a batch; a request that holds more goes alone")
    wait_ms: float = Field(2.0, ge=0, description="longest that a request is held back for others that are being read")
    most_waiting: int = Field(1_000, ge=1, description="requests that may wait; the next gets 503")
    timeout_s: float = Field(30.0, gt=0, description="longest computation of a batch")
    concurrency: int = Field(1, ge=1, description="batches computed at once")

    @model_validator(mode="after")
    def _a_batch_can_fill(self) -> Self:
        if self.most_waiting < self.most_rows:
            raise ValueError(f"most_waiting: {self.most_waiting} is below most_rows, {self.most_rows}; it never fills")
        return self


class ServeSpec(Section):
    """Where the endpoint listens."""

    host: str = Field("127.0.0.1", description="address to bind; anything but loopback needs `keys`")
    port: int = Field(8000, ge=1, le=65_535, description="port of the endpoint")
    replicas: int = Field(1, ge=1, description="processes that answer")
    most_replicas: int | None = Field(None, ge=1, description="processes at most, as the load needs; else fixed")
    max_rows: int = Field(10_000, ge=1, description="most rows that one request may hold")
    batching: BatchingSpec | None = Field(None, description="compute requests together; else each by itself, at once")
    strict: bool = Field(False, description="an engine that cannot be loaded is an error; else the next best answers")
    grpc_port: int | None = Field(None, ge=1, le=65_535, description="port of gRPC; else it is not spoken")
    keys: str | None = Field(None, description="file of API keys, one a line, sent as `Authorization: Bearer KEY`")

    @model_validator(mode="after")
    def _open_only_with_keys(self) -> Self:
        if self.host not in ("127.0.0.1", "localhost", "::1") and self.keys is None:
            raise ValueError(f"host: {self.host!r} is reachable from outside; name a file of API keys in serve.keys")
        return self

    @model_validator(mode="after")
    def _most_is_not_below_fewest(self) -> Self:
        if self.most_replicas is not None and self.most_replicas < self.replicas:
            raise ValueError(f"most_replicas: {self.most_replicas} is below serve.replicas, {self.replicas}")
        return self


class MonitorSpec(Section):
    """How production is compared with training."""

    tests: tuple[JsonValue, ...] = Field(("psi", "ks"), min_length=1, description="drift tests, kind and options")
    period: Literal["day", "week", "month", "all"] = Field("month", description="length of a period in `data.time`")


class SubmitSpec(Section):
    """How the job layer runs stages."""

    attempts: int = Field(2, ge=1, le=10, description="how often a stage is tried before its cause is shown")
    running: int = Field(2, ge=1, description="stages of this home that run at once")
    timeout_s: float = Field(86_400, gt=0, description="longest run of one attempt, seconds")


class Spec(Section):
    """A model's whole life."""

    name: Name = Field(description="the model's name in the registry and in the endpoint's URL")
    data: DataSpec
    train: TrainSpec
    registry: RegistrySpec = RegistrySpec()
    optimize: OptimizeSpec = OptimizeSpec()
    score: ScoreSpec = ScoreSpec()
    serve: ServeSpec = ServeSpec()
    monitor: MonitorSpec = MonitorSpec()
    submit: SubmitSpec = SubmitSpec()

    @field_validator("name")
    @classmethod
    def _no_digits_only(cls, name: str) -> str:
        if name.isdigit():
            raise PydanticCustomError("name", "a name of digits only would be read as a version")
        return name

    @model_validator(mode="after")
    def _windows_exist(self) -> Self:
        named = {"train.on": self.train.on, "train.validate": self.train.validate_on}
        problems = unknown_windows(named, self.data.windows)
        folds = self.train.folds
        if folds is not None and folds.by == "time" and self.data.time is None:
            problems.append("train.folds: by: time needs `data.time`, the column to order rows by")
        on = self.score.in_period(_SOME_PERIOD).on
        try:
            if on is not None:
                self.data.window(on, where="score.on")
        except SpecError as error:
            problems += error.problems
        if problems:
            raise SectionError(*problems)
        return self

    def last_period(self, *, now: datetime) -> Period | None:
        """Return the last period of `score.every` that has ended; None if the spec speaks of no period."""
        if self.score.every is None or not any(speaks_of_period(getattr(self.score, name)) for name in _PERIODIC):
            return None
        cron = Cron(self.score.every)
        end = cron.latest(in_utc(now))
        return Period(cron.before(end), end)

    def in_period(self, period: Period | None) -> "Spec":
        """Return the spec with a period filled in where it speaks of one; None changes nothing."""
        return self if period is None else self.model_copy(update={"score": self.score.in_period(period)})


def unknown_windows(named: Mapping[str, str], windows: Collection[str]) -> list[str]:
    """Return a sentence for each place of the spec that names a window which is not there."""
    return [
        f"{where}: {window!r} is not in data.windows ({', '.join(windows)})"
        for where, window in named.items()
        if window not in windows
    ]
