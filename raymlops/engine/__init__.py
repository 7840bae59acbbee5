"""The engine room: a version's folder becomes a predictor. Knows nothing of traffic, batches or the registry."""

from raymlops.engine.artefact import artefact_key, compile_artefact, size_bytes
from raymlops.engine.choice import chosen, fallback, gpus, write_choice
from raymlops.engine.model import Model, load_format, read_model
from raymlops.engine.predictor import Answering, answering, predictor
from raymlops.engine.quantize import sensitivities

__all__ = [
    "Answering",
    "Model",
    "answering",
    "artefact_key",
    "chosen",
    "compile_artefact",
    "fallback",
    "gpus",
    "load_format",
    "predictor",
    "read_model",
    "sensitivities",
    "size_bytes",
    "write_choice",
]
