"""The registry of models: content-addressed folders, versions and aliases in MLflow, and the record of sweeps."""

from raymlops.registry.folder import commit, lineage, packages, store_folder, verify_folder
from raymlops.registry.store import (
    finalists,
    listed,
    promote,
    register,
    resolve,
    rollback,
    tag_finalists,
    tag_student,
)
from raymlops.registry.tracking import Run, Tracker

__all__ = [
    "Run",
    "Tracker",
    "commit",
    "finalists",
    "lineage",
    "listed",
    "packages",
    "promote",
    "register",
    "resolve",
    "rollback",
    "store_folder",
    "tag_finalists",
    "tag_student",
    "verify_folder",
]
