"""Loading a checkpoint's weights with transformers, quietly and without its surprises.

transformers fills weights that a file lacks with random numbers, writes progress to the terminal and
would run a repository's own code; gptqmodel writes a banner to stdout. None of that happens here.
"""

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging as transformers_logging

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.consent import (
    CodeRequest,
    Consent,
    install_code_packages,
    require_consent,
)
from tanuki_cli.engines.transformers.checkpoint import CheckpointInfo
from tanuki_cli.engines.transformers.placement import Placement
from tanuki_cli.errors import EngineError, brief
from tanuki_cli.hub.code import missing_packages
from tanuki_cli.i18n import _

_MIN_WORKERS: Final = 2
"""gptqmodel's own default on two cores, one worker, waits for itself."""
_LIBRARY_ERRORS: Final = (
    OSError,
    ValueError,
    RuntimeError,
    ImportError,
    LookupError,
    AttributeError,
    AssertionError,
    TypeError,
    ArithmeticError,
    MemoryError,
    SafetensorError,
    StrictDataclassError,  # a value of the wrong type in config.json
)


def load_weights(
    info: CheckpointInfo, placement: Placement, *, model: LocalModel, consent: Consent, debug: bool
) -> Any:
    """The model, ready for :meth:`forward`, as a ``transformers.PreTrainedModel``.

    Raises EngineError without consent to its code, without the packages that this needs, and if the
    weights do not fit the architecture or the memory.
    """
    if info.quantization is not None:
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(max(_MIN_WORKERS, (os.cpu_count() or 1) // 2)))
    if info.custom_code is not None:
        _require_code_packages(info, model.name)
        request = CodeRequest(
            model=model.name, repository=model.repository, revision=model.revision, files=info.code_files
        )
        require_consent(request, consent)
    # Foreign code may raise anything; the libraries raise what the tuple lists.
    errors = (Exception,) if info.custom_code else _LIBRARY_ERRORS
    with _quiet(quantized=info.quantization is not None, debug=debug):
        try:
            network, report = _from_pretrained(info, placement)
            missing = sorted(report["missing_keys"])
            if missing:
                raise ValueError(_("the weights lack {names}").format(names=", ".join(missing[:3])))
            if placement.dense:
                _unpack(network, placement.torch_dtype)
        except errors as exc:
            raise translated(exc, model.name) from exc
    network.requires_grad_(False).eval()
    return network


def translated(error: Exception, name: str) -> EngineError:
    """The sentence for an error of torch, transformers or gptqmodel about the model ``name``."""
    # The first line of torch.compile's errors is only that it failed.
    lines = [line for line in str(error).splitlines() if line.strip() and not line.endswith(" raised:")]
    reason = brief(lines[0].strip() if lines else type(error).__name__)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in reason:
        return EngineError(
            _("There is not enough memory for {model}: {reason}").format(model=name, reason=reason),
            hint=_("Use a shorter --context-length, or a smaller variant: tanuki models"),
        )
    return EngineError(
        _("{model} cannot be run by transformers: {reason}").format(model=name, reason=reason),
        hint=_("For the whole story, repeat it with --debug."),
    )


def _require_code_packages(info: CheckpointInfo, name: str) -> None:
    """Raise EngineError for packages that the model's own code imports and this Python lacks."""
    missing = missing_packages(info.code_files)
    if missing:
        raise EngineError(
            _("The own code of {model} needs packages that are not installed: {packages}.").format(
                model=name, packages=", ".join(missing)
            ),
            hint=install_code_packages(missing),
        )


def _from_pretrained(info: CheckpointInfo, placement: Placement) -> tuple[Any, Mapping[str, Any]]:
    options: dict[str, Any]
    if info.custom_code is None:
        config = transformers.LlamaConfig.from_pretrained(info.path)
        loader, options = transformers.LlamaForCausalLM, {"attn_implementation": "sdpa"}
    else:
        config = transformers.AutoConfig.from_pretrained(info.path, trust_remote_code=True)
        loader, options = transformers.AutoModelForCausalLM, {"trust_remote_code": True}
    # AutoGPTQ's file name is not one that transformers looks for by itself.
    config.transformers_weights = info.weights.entry
    if placement.max_memory:
        options |= {"max_memory": dict(placement.max_memory)}
    if placement.backend != "cpu" or info.quantization is not None:
        options |= {"device_map": placement.device_map}
    if placement.backend == "cpu" and info.quantization is not None:
        # gptqmodel compiles its kernels for a minute, for nothing gained on a CPU.
        torch.compiler.set_stance("force_eager")
    model, report = loader.from_pretrained(
        info.path,
        config=config,
        dtype=placement.torch_dtype,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
        **options,
    )
    return model, report


def _unpack(model: nn.Module, dtype: torch.dtype) -> None:
    """Replace gptqmodel's packed linear layers by plain ones with the same numbers."""
    packed = [
        (name, module) for name, module in model.named_modules() if hasattr(module, "dequantize_weight")
    ]
    for name, module in packed:
        # The class's own method: the instance's is a compiled one.
        weight = type(module).dequantize_weight(module)  # shape (in, out)
        n_in, n_out = weight.shape
        linear = nn.Linear(n_in, n_out, bias=module.bias is not None, dtype=dtype, device="meta")
        linear.weight = nn.Parameter(weight.T.to(dtype).contiguous(), requires_grad=False)
        if module.bias is not None:
            linear.bias = nn.Parameter(module.bias.to(dtype), requires_grad=False)
        model.set_submodule(name, linear)


@contextmanager
def _quiet(*, quantized: bool, debug: bool) -> Iterator[None]:
    """Keep the libraries off the terminal; with ``debug`` they may write to stderr, never to stdout."""
    with ExitStack() as stack:
        if debug:
            stack.enter_context(redirect_stdout(sys.stderr))
            yield
            return
        # These are for developers, and come from a model's own code long after loading, too.
        warnings.simplefilter("ignore", FutureWarning)
        sink = io.StringIO()
        stack.enter_context(redirect_stdout(sink))
        stack.enter_context(redirect_stderr(sink))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        # transformers tries torchao, which gptqmodel brings, and torch complains about that.
        logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
        if quantized and find_spec("logbar"):
            # gptqmodel's own logger writes to stdout, later too.
            import_module("logbar").LogBar.shared().setLevel(logging.ERROR)
        yield
