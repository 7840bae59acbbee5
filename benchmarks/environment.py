"""Environments of their own for rivals: made once, again when the pins change. Knows nothing of what runs in them."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

__all__ = ["rivals_python"]

_HERE = Path(__file__).parent


def rivals_python(pins: str = "rivals.txt") -> Path:
    """Return the interpreter of an environment beside this file, which pip fills with a file of pins, minutes, once."""
    files = (_HERE / pins, _HERE.parent / "constraints.txt")
    folder = _HERE / f".{files[0].stem}"
    python, stamp = folder / "bin" / "python", folder / "pins"
    digest = sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"rivals: installing {pins} into {folder} (some minutes, once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", str(files[0])], check=True)
        stamp.write_text(digest)
    return python
