"""The spec: one typed YAML file that names a model's whole life. Knows nothing of how a stage is done."""

from raymlops.spec.cron import Cron
from raymlops.spec.home import expand, home, home_variables
from raymlops.spec.load import load, parse
from raymlops.spec.period import Period, in_utc, speaks_of_period
from raymlops.spec.sections import (
    Budget,
    DataSpec,
    FeatureSpec,
    HalvingSpec,
    MonitorSpec,
    OptimizeSpec,
    ScoreSpec,
    ServeSpec,
    Spec,
    SubmitSpec,
    TrainerSpec,
    TrainSpec,
    Window,
)
from raymlops.spec.space import Distribution

__all__ = [
    "Budget",
    "Cron",
    "DataSpec",
    "Distribution",
    "FeatureSpec",
    "HalvingSpec",
    "MonitorSpec",
    "OptimizeSpec",
    "Period",
    "ScoreSpec",
    "ServeSpec",
    "Spec",
    "SubmitSpec",
    "TrainSpec",
    "TrainerSpec",
    "Window",
    "expand",
    "home",
    "home_variables",
    "in_utc",
    "load",
    "parse",
    "speaks_of_period",
]
