"""The contract: what a row must look like to be answered. Batch and online validation are this and nothing else."""

from raymlops.contract.answer import answer_schema, answers, name_problems
from raymlops.contract.contract import Contract, Feature, Label
from raymlops.contract.encode import Encoded, Violation, encode, encode_label
from raymlops.contract.infer import infer, override
from raymlops.contract.profile import profile_parts, profile_table
from raymlops.contract.schema import schema_problems
from raymlops.contract.screen import Screen

__all__ = [
    "Contract",
    "Encoded",
    "Feature",
    "Label",
    "Screen",
    "Violation",
    "answer_schema",
    "answers",
    "encode",
    "encode_label",
    "infer",
    "name_problems",
    "override",
    "profile_parts",
    "profile_table",
    "schema_problems",
]
