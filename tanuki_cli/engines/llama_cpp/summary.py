"""llama.cpp as it is installed here, told without loading it."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.catalog import Variant
from tanuki_cli.catalog.engines import MemoryNeeds, MemoryPlan, estimate_variant
from tanuki_cli.engines.checking import Check, probe
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import Machine
from tanuki_cli.machine.memory import GPU_RESERVE_BYTES
from tanuki_cli.machine.packages import LLAMA_CPP, find_nvcc, pip_install, rebuild_llama_cpp

# In a process of its own: a library that was built for another machine ends it with a signal.
_PROBE: Final = "import json, llama_cpp; print(json.dumps(bool(llama_cpp.llama_supports_gpu_offload())))"


class LlamaCppSummary(Struct, frozen=True, kw_only=True):
    """Implements :class:`~tanuki_cli.engines.checking.InstalledEngine`."""

    installed: bool
    can_use_gpu: bool
    name: str = "llama.cpp"

    @classmethod
    def look(cls) -> "LlamaCppSummary":
        """Look for the package and for the backends in it."""
        package = find_spec("llama_cpp")
        folders = [Path(folder) for folder in (package and package.submodule_search_locations) or ()]
        gpu_backends = [
            library
            for folder in folders
            for kind in ("cuda", "metal", "vulkan", "hip", "sycl")
            for library in (folder / "lib").glob(f"*ggml-{kind}*")
        ]
        return cls(installed=package is not None, can_use_gpu=bool(gpu_backends))

    def takes(self, variant: Variant) -> bool:
        """GGUF files."""
        return variant.format == "gguf"

    def runs(self, variant: Variant) -> bool:
        """All of them but those whose model it knows wrongly."""
        return self.installed and self.takes(variant) and not variant.refused

    def needs(
        self, variant: Variant, plan: MemoryPlan, *, gpus: int, weights_bytes: int | None = None
    ) -> MemoryNeeds:
        """Weights as they lie in the file, the KV cache of ``plan``, scratch memory."""
        estimate = estimate_variant(
            variant,
            context_length=plan.context_length,
            kv_type=plan.kv_type,
            weights_bytes=weights_bytes,
        )
        on_gpu = estimate.total - estimate.overhead + max(gpus, 1) * GPU_RESERVE_BYTES
        return MemoryNeeds(on_gpu=on_gpu, on_cpu=estimate.total)

    def install_command(self, variant: Variant) -> str:
        """What installs it."""
        return pip_install(LLAMA_CPP)

    def check(self, machine: Machine) -> Check:
        """Whether llama.cpp loads, and can use the GPU where there is one."""
        if not self.installed:
            fix = pip_install(LLAMA_CPP)
            return Check(name="llama.cpp", status="fail", detail=_("Not installed."), fix=fix)
        offload = probe(_PROBE)
        if isinstance(offload, str):
            return Check(
                name="llama.cpp",
                status="fail",
                detail=_("It cannot be loaded: {reason}").format(reason=offload),
                fix=rebuild_llama_cpp(""),
            )
        if machine.gpus and not offload:
            detail = _("There is a GPU, but this build of llama.cpp cannot use it.")
            if sys.platform == "darwin":
                return Check(
                    name="llama.cpp", status="warn", detail=detail, fix=rebuild_llama_cpp("-DGGML_METAL=on")
                )
            nvcc = find_nvcc()
            if nvcc is None:
                why = _("Building it needs nvcc, which comes with NVIDIA's CUDA Toolkit and was not found.")
                detail = f"{detail} {why}"
            fix = rebuild_llama_cpp("-DGGML_CUDA=on", nvcc=nvcc)
            return Check(name="llama.cpp", status="warn", detail=detail, fix=fix)
        detail = _("It can use a GPU.") if offload else _("It is built for the CPU.")
        return Check(name="llama.cpp", status="ok", detail=detail)
