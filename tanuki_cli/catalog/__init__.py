"""The models: what a reference such as ``tanuki-8b:q4_k_m`` means, and which one suits a machine.

The last is in ``recommendation``, what it asks of an engine in ``engines``: imported where they are needed.
"""

from tanuki_cli.catalog.parts import part_names, whole_models
from tanuki_cli.catalog.references import parse_reference, reference_names
from tanuki_cli.catalog.types import (
    AutoReference,
    Downloadable,
    Family,
    FamilyReference,
    Format,
    HubReference,
    LocalModel,
    ModelShape,
    PathReference,
    PracticeReference,
    Quantization,
    Reference,
    RemoteModel,
    Target,
    Variant,
)
from tanuki_cli.catalog.variants import (
    FAMILIES,
    PRACTICE_NAME,
    TANUKI_8B,
    TANUKI_8X8B,
    VARIANT_BY_NAME,
    VARIANTS,
)

__all__ = [
    "FAMILIES",
    "PRACTICE_NAME",
    "TANUKI_8B",
    "TANUKI_8X8B",
    "VARIANTS",
    "VARIANT_BY_NAME",
    "AutoReference",
    "Downloadable",
    "Family",
    "FamilyReference",
    "Format",
    "HubReference",
    "LocalModel",
    "ModelShape",
    "PathReference",
    "PracticeReference",
    "Quantization",
    "Reference",
    "RemoteModel",
    "Target",
    "Variant",
    "parse_reference",
    "part_names",
    "reference_names",
    "whole_models",
]
