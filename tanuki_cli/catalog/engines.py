"""What the catalog asks of an engine before any model is loaded. The engines answer: engines/installed.py."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from tanuki_cli.catalog.types import Variant
from tanuki_cli.machine.memory import KvType, MemoryEstimate, estimate_memory


class MemoryPlan(Struct, frozen=True, kw_only=True):
    """What is set that decides how much memory a model takes beside its weights, and where.

    ``gpu_layers`` None means as many as fit, 0 none.
    """

    context_length: int
    kv_type: KvType = "f16"
    gpu_layers: int | None = None

    def allows_gpu_only(self, variant: Variant) -> bool:
        """Whether ``variant`` may be on the GPU as a whole; llama.cpp counts the output as a layer more."""
        if self.gpu_layers is None or variant.format != "gguf":
            return self.gpu_layers != 0
        return self.gpu_layers > variant.family.shape.n_layers


class MemoryNeeds(Struct, frozen=True, kw_only=True):
    """The forecast peaks in bytes: of the GPUs' memory if all of a model is there, of the main memory if it
    runs on the CPU."""

    on_gpu: int
    on_cpu: int


class EngineSummary(Protocol):
    """One engine as it is installed here."""

    @property
    def name(self) -> str:
        """E.g. ``llama.cpp``."""

    @property
    def installed(self) -> bool:
        """Whether it runs anything."""

    @property
    def can_use_gpu(self) -> bool:
        """Whether it was built for a GPU."""

    def takes(self, variant: Variant) -> bool:
        """Whether models in this format are its business."""

    def runs(self, variant: Variant) -> bool:
        """Whether all that ``variant`` needs is installed."""

    def needs(
        self, variant: Variant, plan: MemoryPlan, *, gpus: int, weights_bytes: int | None = None
    ) -> MemoryNeeds:
        """What ``variant`` takes; on ``gpus`` GPUs, each of which keeps something for its driver.

        ``weights_bytes`` where the real size is known.
        """

    def install_command(self, variant: Variant) -> str:
        """What installs all that ``variant`` needs."""


Engines = Sequence[EngineSummary]


def engine_for(variant: Variant, engines: Engines) -> EngineSummary:
    """The engine whose business ``variant`` is, installed or not."""
    return next(engine for engine in engines if engine.takes(variant))


def estimate_variant(
    variant: Variant, *, context_length: int, kv_type: KvType = "f16", weights_bytes: int | None = None
) -> MemoryEstimate:
    """Forecast the memory of a variant by its shape; ``weights_bytes`` where the real size is known."""
    shape = variant.family.shape
    return estimate_memory(
        weights_bytes=weights_bytes or variant.approximate_bytes,
        n_layers=shape.n_layers,
        n_heads=shape.n_heads,
        n_kv_heads=shape.n_kv_heads,
        head_dim=shape.head_dim,
        hidden_size=shape.hidden_size,
        vocab_size=shape.vocab_size,
        context_length=min(context_length, shape.max_context_length),
        kv_type=kv_type,
    )
