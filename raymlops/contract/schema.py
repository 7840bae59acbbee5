"""Compare the columns of a source with a contract, before a row is read."""

import pyarrow as pa

from raymlops.contract.columns import fits
from raymlops.contract.contract import Contract
from raymlops.plugins import suggestion

__all__ = ["schema_problems"]


def schema_problems(contract: Contract, schema: pa.Schema) -> list[str]:
    """Return a sentence for each column of the contract that the schema lacks or has with a wrong type."""
    names = tuple(schema.names)
    problems = []
    for feature in contract.features:
        if feature.name not in names:
            problems.append(f"column {feature.name!r}: is missing{suggestion(feature.name, names)}")
        elif not fits(feature.type, schema.field(feature.name).type):
            problems.append(
                f"column {feature.name!r}: type {schema.field(feature.name).type} given, {feature.type} needed"
            )
    problems += [
        f"key column {name!r}: is missing{suggestion(name, names)}" for name in contract.key if name not in names
    ]
    return problems
