"""Engines as they might be installed on another machine."""

from tanuki_cli.catalog.engines import Engines
from tanuki_cli.engines.llama_cpp.summary import LlamaCppSummary
from tanuki_cli.engines.transformers.summary import TransformersSummary


def engines(
    *,
    llama_cpp: bool = True,
    llama_cpp_gpu: bool = False,
    transformers: bool = False,
    quantized: bool = False,
) -> Engines:
    """What is installed: by default only llama.cpp, built for the CPU."""
    return (
        LlamaCppSummary(installed=llama_cpp, can_use_gpu=llama_cpp_gpu),
        TransformersSummary(installed=transformers, quantized=quantized),
    )


PLAIN = engines()
ALL = engines(llama_cpp_gpu=True, transformers=True, quantized=True)
