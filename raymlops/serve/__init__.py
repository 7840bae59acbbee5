"""Online answers: models behind the Open Inference Protocol, on Ray Serve. Knows nothing of training or batches."""

from raymlops.serve.deploy import run, stop

__all__ = ["run", "stop"]
