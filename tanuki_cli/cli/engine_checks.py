"""The checks of ``tanuki doctor`` on packages, GPUs and engines."""

import importlib.metadata
import json
import subprocess
import sys
from typing import Final

from tanuki_cli.cli.check import Check
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import Engines, Machine, format_bytes
from tanuki_cli.machine.packages import LLAMA_CPP, find_nvcc, install_extra, pip_install, rebuild_llama_cpp

_PACKAGES: Final = (LLAMA_CPP, "tokenizers", "huggingface_hub", "prompt_toolkit", "rich", "typer")
_EXTRA_PACKAGES: Final = ("torch", "transformers", "accelerate", "gptqmodel", "optimum")
_PROBE_TIMEOUT_S: Final = 120
# In a process of its own: a library that was built for another machine ends it with a signal.
_LLAMA_CPP_PROBE: Final = (
    "import json, llama_cpp; print(json.dumps(bool(llama_cpp.llama_supports_gpu_offload())))"
)
_TORCH_PROBE: Final = (
    "import json, torch; mps = torch.backends.mps.is_available();"
    "print(json.dumps(bool(torch.cuda.is_available() or mps)))"
)


def check_packages() -> Check:
    """The versions of what the program stands on."""
    versions = {name: _version(name) for name in (*_PACKAGES, *_EXTRA_PACKAGES)}
    missing = [name for name in _PACKAGES if versions[name] is None]
    detail = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if missing:
        return Check(
            name="packages",
            status="fail",
            detail=_("Missing: {names}.").format(names=", ".join(missing)),
            fix=pip_install(*missing),
        )
    return Check(name="packages", status="ok", detail=detail)


def check_gpu(machine: Machine) -> Check:
    """GPUs that this process may use."""
    found = ", ".join(
        _("{name} ({free} of {total} free)").format(
            name=gpu.name, free=format_bytes(gpu.free_bytes), total=format_bytes(gpu.total_bytes)
        )
        for gpu in machine.gpus
    )
    return Check(name="gpu", status="ok", detail=found or _("No usable GPU; models run on the CPU."))


def check_llama_cpp(machine: Machine, engines: Engines) -> Check:
    """Whether llama.cpp loads, and can use the GPU where there is one."""
    if not engines.llama_cpp:
        return Check(name="llama.cpp", status="fail", detail=_("Not installed."), fix=pip_install(LLAMA_CPP))
    offload = _probe(_LLAMA_CPP_PROBE)
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
            missing = _("Building it needs nvcc, which comes with NVIDIA's CUDA Toolkit and was not found.")
            detail = f"{detail} {missing}"
        fix = rebuild_llama_cpp("-DGGML_CUDA=on", nvcc=nvcc)
        return Check(name="llama.cpp", status="warn", detail=detail, fix=fix)
    detail = _("It can use a GPU.") if offload else _("It is built for the CPU.")
    return Check(name="llama.cpp", status="ok", detail=detail)


def check_transformers(machine: Machine, engines: Engines) -> Check:
    """The optional engine for safetensors."""
    if not engines.transformers:
        detail = _("Not installed; only models in safetensors need it: {command}").format(
            command=install_extra("transformers")
        )
        return Check(name="transformers", status="ok", detail=detail)
    if machine.gpus:
        usable = _probe(_TORCH_PROBE)
        if usable is not True:
            reason = usable if isinstance(usable, str) else _("this torch is built for the CPU")
            return Check(
                name="transformers",
                status="warn",
                detail=_("There is a GPU, but torch cannot use it: {reason}").format(reason=reason),
                fix="https://pytorch.org/get-started/locally/",
            )
    detail = (
        _("Installed, with AWQ and GPTQ.")
        if engines.quantized
        else _("Installed; AWQ and GPTQ need more: {command}").format(command=install_extra("quantized"))
    )
    return Check(name="transformers", status="ok", detail=detail)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _probe(code: str) -> object:
    """What ``code`` prints as JSON in a Python of its own; a text says why there is none."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _("it does not answer")
    if done.returncode < 0:
        return _("it was ended by signal {number}, perhaps because it was built for another CPU").format(
            number=-done.returncode
        )
    if done.returncode > 0:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else "?"
    return json.loads(done.stdout.splitlines()[-1])
