"""Every published variant of Tanuki.

Sizes are approximate and only shown offline or before a download; the hub has the real ones.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from tanuki_cli.catalog.types import Family, ModelShape, Quantization, Variant
from tanuki_cli.i18n import N_

PRACTICE_NAME: Final = "mame"
_SHAPE_8B: Final = ModelShape(
    parameters=7_510_000_000,
    n_layers=32,
    n_heads=32,
    n_kv_heads=8,
    head_dim=128,
    hidden_size=4096,
    vocab_size=65024,
    max_context_length=8192,
)
# The attention of the 8x8B is taken to be that of the 8B; only estimates rest on it.
_SHAPE_8X8B: Final = ModelShape(
    parameters=47_000_000_000,
    n_layers=32,
    n_heads=32,
    n_kv_heads=8,
    head_dim=128,
    hidden_size=4096,
    vocab_size=65024,
    max_context_length=4096,
)
TANUKI_8B: Final = Family(
    name="tanuki-8b",
    title="Tanuki-8B-dpo-v1.0",
    reference_repository="weblab-GENIAC/Tanuki-8B-dpo-v1.0",
    shape=_SHAPE_8B,
)
TANUKI_8X8B: Final = Family(
    name="tanuki-8x8b",
    title="Tanuki-8x8B-dpo-v1.0",
    reference_repository="weblab-GENIAC/Tanuki-8x8B-dpo-v1.0",
    shape=_SHAPE_8X8B,
    cuda_only=True,
)
FAMILIES: Final = (TANUKI_8B, TANUKI_8X8B)

_QUANTIZER: Final = "team-hatakeyama-phase2"
# Bits per weight of llama.cpp's mixes for a model of this shape, best first.
_GGUF_BITS: Final[Mapping[str, float]] = {
    "F16": 16.0,
    "Q8_0": 8.50,
    "Q6_K": 6.57,
    "Q5_K_M": 5.70,
    "Q5_K_S": 5.54,
    "Q4_K_M": 4.83,
    "IQ4_NL": 4.60,
    "Q4_K_S": 4.58,
    "IQ4_XS": 4.38,
    "Q3_K_L": 4.30,
    "Q3_K_M": 3.98,
    "IQ3_M": 3.76,
    "IQ3_S": 3.66,
    "Q3_K_S": 3.62,
    "IQ3_XS": 3.50,
    "IQ3_XXS": 3.25,
    "Q2_K": 3.14,
    "Q2_K_S": 2.96,
    "IQ2_M": 2.93,
    "IQ2_S": 2.74,
    "IQ2_XS": 2.59,
    "IQ2_XXS": 2.38,
    "IQ1_M": 2.15,
    "IQ1_S": 2.00,
}
_CAVEAT_GGUF: Final = N_(
    "The model card calls GGUF degraded: very likely llama.cpp's tokenizer, which tanuki does not use."
)
_CAVEAT_LOW_BITS: Final = N_("So few bits cost much quality.")
_CAVEAT_8X8B_GGUF: Final = N_(
    "llama.cpp does not know the router of Tanuki-8x8B: it would run this file with wrong output."
)
_CAVEAT_8X8B: Final = N_(
    "Needs the repository's own Python code, which you are asked about, and flash-attn on NVIDIA GPUs; "
    "more practical is a server built for Tanuki-8x8B."
)
_LOW_BITS: Final = 3.5


def _gguf_rows(family: Family) -> Iterable[Variant]:
    mixture = family is TANUKI_8X8B
    for quant, bits in _GGUF_BITS.items():
        caveat = _CAVEAT_LOW_BITS if bits < _LOW_BITS else _CAVEAT_GGUF
        yield Variant(
            family=family,
            tag=quant.lower(),
            repository=f"{_QUANTIZER}/{family.title}-GGUF",
            filename=f"{family.title}-{quant}.gguf",
            format="gguf",
            approximate_bytes=round(family.shape.parameters * bits / 8),
            caveat=_CAVEAT_8X8B_GGUF if mixture else caveat,
            refused=mixture,
        )


def _checkpoint_rows(family: Family, sizes: tuple[float, float, float, float]) -> Iterable[Variant]:
    rows: tuple[tuple[str, str, Quantization | None], ...] = (
        ("full", family.reference_repository, None),
        ("awq", f"{_QUANTIZER}/{family.title}-AWQ", "awq"),
        ("gptq-4bit", f"{_QUANTIZER}/{family.title}-GPTQ-4bit", "gptq"),
        ("gptq-8bit", f"{_QUANTIZER}/{family.title}-GPTQ-8bit", "gptq"),
    )
    for (tag, repository, quantization), gigabytes in zip(rows, sizes, strict=True):
        yield Variant(
            family=family,
            tag=tag,
            repository=repository,
            format="safetensors",
            quantization=quantization,
            approximate_bytes=round(gigabytes * 1e9),
            caveat=_CAVEAT_8X8B if family is TANUKI_8X8B else None,
        )


VARIANTS: Final[tuple[Variant, ...]] = (
    *_checkpoint_rows(TANUKI_8B, (15.0, 4.7, 4.7, 8.2)),
    *_gguf_rows(TANUKI_8B),
    *_checkpoint_rows(TANUKI_8X8B, (94.0, 25.0, 25.0, 49.0)),
    *_gguf_rows(TANUKI_8X8B),
)
VARIANT_BY_NAME: Final[Mapping[str, Variant]] = {variant.name: variant for variant in VARIANTS}
FAMILY_BY_NAME: Final[Mapping[str, Family]] = {family.name: family for family in FAMILIES}
