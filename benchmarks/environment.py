"""An environment of their own for rivals: made once, again when its pins change. Knows nothing of what runs in it."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

__all__ = ["rivals_python"]

_HERE = Path(__file__).parent
_PINS = (_HERE / "rivals.txt", _HERE.parent / "constraints.txt")


def rivals_python() -> Path:
    """Return the interpreter of `benchmarks/.rivals/`, which pip fills with `rivals.txt`, some minutes, once."""
    folder = _HERE / ".rivals"
    python, stamp = folder / "bin" / "python", folder / "pins"
    pins = sha256(b"".join(path.read_bytes() for path in _PINS)).hexdigest()
    if not stamp.exists() or stamp.read_text() != pins:
        print(f"rivals: installing {_PINS[0].name} into {folder} (some minutes, once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--constraint", str(_PINS[1]), "--requirement", str(_PINS[0])], check=True)
        stamp.write_text(pins)
    return python
