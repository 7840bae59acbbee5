"""The registry of models: content-addressed folders, versions and aliases in MLflow, who may do what, and the record of
sweeps.
"""

from raymlops.registry.access import Role, access, allow
from raymlops.registry.aliases import (
    approve,
    check_aliases,
    finalists,
    promote,
    rollback,
    tag_finalists,
    tag_student,
)
from raymlops.registry.chronicle import history, note, origin_of
from raymlops.registry.depot import fetched
from raymlops.registry.diff import Difference, diff
from raymlops.registry.folder import lineage, packages, store_folder, verify_folder
from raymlops.registry.journal import Entry, aliases_at
from raymlops.registry.keys import new_key
from raymlops.registry.origin import Origin, check_clean, keep_origin, origin
from raymlops.registry.registration import register, sign
from raymlops.registry.signature import check_loaded
from raymlops.registry.tracking import Run, Tracker
from raymlops.registry.versions import listed, resolve

__all__ = [
    "Difference",
    "Entry",
    "Origin",
    "Role",
    "Run",
    "Tracker",
    "access",
    "aliases_at",
    "allow",
    "approve",
    "check_aliases",
    "check_clean",
    "check_loaded",
    "diff",
    "fetched",
    "finalists",
    "history",
    "keep_origin",
    "lineage",
    "listed",
    "new_key",
    "note",
    "origin",
    "origin_of",
    "packages",
    "promote",
    "register",
    "resolve",
    "rollback",
    "sign",
    "store_folder",
    "tag_finalists",
    "tag_student",
    "verify_folder",
]
