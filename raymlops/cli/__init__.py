"""The command line: it wires rooms together and decides nothing."""

from raymlops.cli.main import app, main

__all__ = ["app", "main"]
