"""transformers as it is installed here, told without importing it."""

from typing import Final

from msgspec import Struct

from tanuki_cli.catalog import Variant
from tanuki_cli.catalog.engines import MemoryNeeds, MemoryPlan, estimate_variant
from tanuki_cli.engines.checking import Check, probe
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import Machine
from tanuki_cli.machine.memory import TORCH_BYTES, TORCH_GPU_RESERVE_BYTES
from tanuki_cli.machine.packages import QUANTIZED, TRANSFORMERS, install_extra, missing

_PROBE: Final = (
    "import json, torch; mps = torch.backends.mps.is_available();"
    "print(json.dumps(bool(torch.cuda.is_available() or mps)))"
)


class TransformersSummary(Struct, frozen=True, kw_only=True):
    """Implements :class:`~tanuki_cli.engines.checking.InstalledEngine`; ``quantized`` with AWQ and GPTQ."""

    installed: bool
    quantized: bool
    name: str = "transformers"
    can_use_gpu: bool = True

    @classmethod
    def look(cls) -> "TransformersSummary":
        """Look for the packages."""
        installed = not missing(TRANSFORMERS)
        return cls(installed=installed, quantized=installed and not missing(QUANTIZED["gptq"]))

    def takes(self, variant: Variant) -> bool:
        """Checkpoints in safetensors."""
        return variant.format == "safetensors"

    def runs(self, variant: Variant) -> bool:
        """Quantised ones need more packages."""
        usable = self.installed and (variant.quantization is None or self.quantized)
        return usable and self.takes(variant) and not variant.refused

    def needs(
        self, variant: Variant, plan: MemoryPlan, *, gpus: int, weights_bytes: int | None = None
    ) -> MemoryNeeds:
        """Weights, a KV cache in 16 bits whatever ``plan`` says, and the libraries."""
        estimate = estimate_variant(variant, context_length=plan.context_length, weights_bytes=weights_bytes)
        # No CPU is fast with packed 8-bit weights: they are unpacked to 16 bits.
        unpacked = estimate.weights if variant.tag == "gptq-8bit" else 0
        return MemoryNeeds(
            on_gpu=estimate.total - estimate.overhead + max(gpus, 1) * TORCH_GPU_RESERVE_BYTES,
            on_cpu=estimate.total + TORCH_BYTES + unpacked,
        )

    def install_command(self, variant: Variant) -> str:
        """What installs the packages for ``variant``."""
        return install_extra("quantized" if variant.quantization else "transformers")

    def check(self, machine: Machine) -> Check:
        """The optional engine for safetensors."""
        if not self.installed:
            detail = _("Not installed; only models in safetensors need it: {command}").format(
                command=install_extra("transformers")
            )
            return Check(name="transformers", status="ok", detail=detail)
        if machine.gpus:
            usable = probe(_PROBE)
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
            if self.quantized
            else _("Installed; AWQ and GPTQ need more: {command}").format(command=install_extra("quantized"))
        )
        return Check(name="transformers", status="ok", detail=detail)
