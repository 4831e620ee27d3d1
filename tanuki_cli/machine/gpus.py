"""The GPUs of the machine and their memory."""

import ctypes
import platform
import sys
import warnings
from collections.abc import Iterable, Mapping

from msgspec import Struct


class Gpu(Struct, frozen=True, kw_only=True):
    """A GPU; bytes of its memory. ``unified`` memory is the machine's own RAM (Apple Silicon)."""

    name: str
    total_bytes: int
    free_bytes: int
    unified: bool = False


def nvidia_gpus(environ: Mapping[str, str]) -> Iterable[Gpu]:
    """Those that this process may use; none where the driver does not answer."""
    if not _has_nvidia_driver():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        uuids = [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        for index in visible_devices(uuids, environ.get("CUDA_VISIBLE_DEVICES")):
            memory = pynvml.nvmlDeviceGetMemoryInfo(handles[index])
            name = _text(pynvml.nvmlDeviceGetName(handles[index]))
            yield Gpu(name=name, total_bytes=int(memory.total), free_bytes=int(memory.free))
    except pynvml.NVMLError:
        return
    finally:
        pynvml.nvmlShutdown()


def _has_nvidia_driver() -> bool:
    """Whether there is one to ask: importing the module that asks takes longer than looking."""
    if sys.platform != "linux":
        return True
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def visible_devices(uuids: list[str], setting: str | None) -> list[int]:
    """Indices of the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves, in its order.

    As in CUDA, the list ends at the first entry that names no GPU. None: all of them.
    """
    if setting is None:
        return list(range(len(uuids)))
    chosen: list[int] = []
    for entry in (part.strip() for part in setting.split(",")):
        matches = [index for index, uuid in enumerate(uuids) if entry and uuid.startswith(entry)]
        if entry.isdigit() and int(entry) < len(uuids):
            matches = [int(entry)]
        if len(matches) != 1:
            break
        chosen += matches
    return chosen


def apple_gpu(ram: int, available: int) -> Iterable[Gpu]:
    """The GPU of Apple Silicon, which shares the RAM; Metal lends about three quarters of it."""
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        lent = ram * 3 // 4
        yield Gpu(name="Apple Silicon", total_bytes=lent, free_bytes=min(lent, available), unified=True)
