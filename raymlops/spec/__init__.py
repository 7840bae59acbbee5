"""The spec: one typed YAML file that names a model's whole life. Knows nothing of how a stage is done."""

from raymlops.spec.cron import Cron
from raymlops.spec.home import expand, home, home_variables
from raymlops.spec.load import load, parse, read_mapping
from raymlops.spec.period import Period, in_utc, speaks_of_period
from raymlops.spec.sections import (
    Budget,
    DataSpec,
    FeatureSpec,
    MonitorSpec,
    OptimizeSpec,
    ScoreSpec,
    ServeSpec,
    Spec,
    SubmitSpec,
    Window,
)
from raymlops.spec.space import Distribution
from raymlops.spec.training import FoldsSpec, HalvingSpec, TrainerSpec, TrainSpec

__all__ = [
    "Budget",
    "Cron",
    "DataSpec",
    "Distribution",
    "FeatureSpec",
    "FoldsSpec",
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
    "read_mapping",
    "speaks_of_period",
]
