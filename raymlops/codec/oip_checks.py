"""What holds for a request or response of the Open Inference Protocol in every form. Knows nothing of the forms.

A problem is a text `inputs[1].shape: what was given, what is allowed`; checks add theirs to a list, so that a caller
hears of many at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any, TypeVar

from raymlops.codec.oip import Parameters, Tensor
from raymlops.codec.oip_elements import DATATYPES, shown
from raymlops.errors import SpecError

__all__ = ["MOST_PROBLEMS", "check", "gather", "head_problems", "parameters_of", "requested", "text_of", "unknown"]

MOST_PROBLEMS = 20
_MOST_DIMENSIONS = 8
_MOST_ELEMENTS = 2**40  # what no body holds, and what no product of sizes in NumPy overflows
_MOST_TEXT = 256
_OUTPUT = frozenset({"name", "parameters"})
_NOT_OFFERED = {
    "classification": "is not offered; ask for the outputs as they are",
    "shared_memory_region": "is not offered; send the data itself, and take it from the body",
}

_Value = TypeVar("_Value")
_Blob = TypeVar("_Blob")


def check(problems: Sequence[str]) -> None:
    """Raise SpecError with the first 20 problems, if there are any."""
    if problems:
        raise SpecError(*problems[:MOST_PROBLEMS])


def gather(
    values: Sequence[_Value],
    blobs: Iterable[_Blob],
    place: str,
    read: Callable[[_Value, str, _Blob], Tensor],
    problems: list[str],
) -> tuple[Tensor, ...]:
    """Return the tensors that `read` makes of values, each with its place and binary data; their names must differ."""
    found: dict[str, Tensor] = {}
    for index, (value, blob) in enumerate(zip(values, blobs, strict=True)):
        try:
            made = read(value, f"{place}[{index}]", blob)
        except SpecError as error:
            problems += error.problems
            if len(problems) >= MOST_PROBLEMS:
                break
            continue
        if made.name in found:
            problems.append(f"{place}[{index}].name: {made.name!r:.80} is given twice; keep one")
        found[made.name] = made
    return tuple(found.values())


def head_problems(name: Any, datatype: Any, shape: Any, place: str) -> list[str]:
    """Return what is wrong with what describes a tensor."""
    problems = []
    if not isinstance(name, str) or not name:
        problems.append(f"{place}.name: {shown(name)} given; a text is needed")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        problems.append(f"{place}.datatype: {shown(datatype)} given; one of {', '.join(DATATYPES)} is needed")
    if not _is_shape(shape):
        problems.append(
            f"{place}.shape: {shown(shape)} given; 1 to {_MOST_DIMENSIONS} whole numbers from 0 on are needed, "
            f"of {_MOST_ELEMENTS} elements at most"
        )
    return problems


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= _MOST_DIMENSIONS
        and all(type(size) is int and size >= 0 for size in value)
        and prod(size or 1 for size in value) <= _MOST_ELEMENTS
    )


def unknown(value: Mapping[str, Any], known: frozenset[str], place: str) -> list[str]:
    """Return a problem for each key that is not known."""
    keys = [] if value.keys() <= known else [key for key in value if key not in known]
    return [f"{place}{key:.80}: unknown key, known are {', '.join(sorted(known))}" for key in keys]


def text_of(value: Any, place: str, problems: list[str]) -> str | None:
    """Return a short text, None where there is none."""
    if value is not None and not (isinstance(value, str) and len(value) <= _MOST_TEXT):
        problems.append(f"{place}: {shown(value)} given; a text of at most {_MOST_TEXT} characters is needed")
        return None
    return value


def parameters_of(value: Any, place: str, problems: list[str], *, flag: str | None = None) -> Parameters:
    """Return the parameters of anything; the one that is named by `flag` must be true or false."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.append(f"{place}: {shown(value)} given; an object is needed")
        return {}
    nested = [key for key, item in value.items() if not isinstance(item, bool | int | float | str)]
    problems += [f"{place}.{key:.80}: {shown(value[key])} given; a number, text or boolean is needed" for key in nested]
    if flag in value and not isinstance(value[flag], bool):
        problems.append(f"{place}.{flag}: {shown(value[flag])} given; true or false is needed")
    problems += [f"{place}.{key}: {why}" for key, why in _NOT_OFFERED.items() if key in value]
    return value


def requested(value: Any, problems: list[str]) -> tuple[tuple[str, ...] | None, dict[str, Parameters]]:
    """Return the names of the wanted outputs, None for all, and the parameters of those that have some."""
    if value is None or value == []:
        return None, {}
    if not isinstance(value, list):
        problems.append(f"outputs: {shown(value)} given; a list of objects with a name is needed")
        return None, {}
    found: dict[str, Parameters] = {}
    for index, item in enumerate(value):
        place = f"outputs[{index}]"
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str):
            problems.append(f"{place}: {shown(item)} given; an object with a name is needed")
        elif name in found:
            problems.append(f"{place}.name: {name!r:.80} is asked for twice; keep one")
        else:
            problems += unknown(item, _OUTPUT, f"{place}.")
            found[name] = parameters_of(item.get("parameters"), f"{place}.parameters", problems, flag="binary_data")
        if len(problems) >= MOST_PROBLEMS:
            break
    return tuple(found), {name: parameters for name, parameters in found.items() if parameters}
