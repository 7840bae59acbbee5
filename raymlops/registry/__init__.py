"""The registry of models: content-addressed folders, versions and aliases in MLflow, and the record of sweeps."""

from raymlops.registry.diff import Difference, diff
from raymlops.registry.folder import commit, lineage, packages, store_folder, verify_folder
from raymlops.registry.journal import Entry, aliases_at
from raymlops.registry.store import (
    check_aliases,
    finalists,
    history,
    listed,
    note,
    promote,
    register,
    resolve,
    rollback,
    tag_finalists,
    tag_student,
)
from raymlops.registry.tracking import Run, Tracker

__all__ = [
    "Difference",
    "Entry",
    "Run",
    "Tracker",
    "aliases_at",
    "check_aliases",
    "commit",
    "diff",
    "finalists",
    "history",
    "lineage",
    "listed",
    "note",
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
