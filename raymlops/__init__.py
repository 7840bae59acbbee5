"""The production loop of machine learning on one Ray cluster.

`load` reads a spec; `raymlops.train.run(spec)` and its like in `optimize`, `score`, `serve` and `monitor` run a
stage; `Client` and `AsyncClient` ask an endpoint; `udf` is a version as a function of a table. Nothing heavy is
imported before it is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raymlops.client import AsyncClient, Client
    from raymlops.score import udf
    from raymlops.spec import load

__all__ = ["AsyncClient", "Client", "__version__", "load", "udf"]

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "raymlops.client",
    "Client": "raymlops.client",
    "load": "raymlops.spec",
    "udf": "raymlops.score",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'raymlops' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
