"""Whether this process reaches an NVIDIA GPU, asked of the driver itself. Knows nothing of models or of engines.

The driver is asked, and not a library above it: some of them end the process where there is none.
"""

import ctypes
from typing import Any

from raymlops.errors import EngineError

__all__ = ["capability", "check_memory", "require"]

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR, cuda.h
# A process's own CUDA context takes some hundred MB beside what its models take: a share may lack as much.
_WITHOUT_CONTEXTS = 0.9


def require(where: str) -> None:
    """Raise EngineError, which begins with ``where`` and says why, unless the driver shows this process a GPU."""
    capability(where)


def capability(where: str) -> str:
    """Return the compute capability of the first GPU that this process sees, as "9.0"; else raise as `require` does."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise _missing(where, f"no NVIDIA driver: {error}") from error
    count, device, major, minor = (ctypes.c_int() for _ in range(4))
    _ask(driver.cuInit(0), where)
    _ask(driver.cuDeviceGetCount(ctypes.byref(count)), where)
    if not count.value:
        raise _missing(where, "the NVIDIA driver shows no device to this process; look at CUDA_VISIBLE_DEVICES")
    _ask(driver.cuDeviceGet(ctypes.byref(device), 0), where)
    _ask(driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device), where)
    _ask(driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device), where)
    return f"{major.value}.{minor.value}"


def check_memory(share: float, where: str) -> None:
    """Raise EngineError if less of the GPU's memory is free than ``share`` of all of it, a tenth forgiven.

    A whole GPU is not checked: what it lacks shows when the model is loaded.
    """
    import torch

    free, total = torch.cuda.mem_get_info()
    if share < 1 and free < share * total * _WITHOUT_CONTEXTS:
        raise EngineError(
            f"{where}: gpu={share!r} asks for {share * total / 2**30:.1f} GiB and {free / 2**30:.1f} GiB of "
            f"{total / 2**30:.1f} are free; name a smaller share, or end what else uses this GPU"
        )


def _ask(code: int, where: str) -> None:
    if code:
        raise _missing(where, f"the NVIDIA driver answers with error {code}")


def _missing(where: str, why: str) -> Any:
    return EngineError(f"{where}: needs a CUDA GPU, and here is {why}; run it where one is, or choose another engine")
