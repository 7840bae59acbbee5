"""An engine of another package, found by its entry point, which is content with a GPU that Ray only counts.

It notes for each process that loads it on which node that is, and which device it sees.
"""

import os
from pathlib import Path

import pytest

__all__ = ["install"]

PACKAGE = {
    "counted.py": """
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray


class Predictor:
    def predict(self, x):
        time.sleep(0.05)
        return np.zeros(len(x), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    gpu: float = 1.0

    def gpus(self):
        return self.gpu

    def compile(self, version, artefact, *, sample):
        pass

    def load(self, version, artefact, *, threads):
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "none"
        note = f"{node} {os.environ.get('CUDA_VISIBLE_DEVICES')}"
        Path(os.environ["COUNTED_NOTES"], str(os.getpid())).write_text(note)
        return Predictor()
""",
    "counted-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: counted\nVersion: 1.0\n",
    "counted-1.0.dist-info/entry_points.txt": "[raymlops.engines]\ncounted = counted:Counted\n",
}


def install(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Put the package where this process and those that it starts find it; return the folder of its notes."""
    for file, text in PACKAGE.items():
        path = folder / "package" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "notes").mkdir()
    patch.setenv("PYTHONPATH", f"{folder / 'package'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    patch.setenv("COUNTED_NOTES", str(folder / "notes"))
    patch.syspath_prepend(str(folder / "package"))
    return folder / "notes"
