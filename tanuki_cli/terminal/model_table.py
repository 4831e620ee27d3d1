"""The list of models, as a table for people and as JSON for programs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import rich.table
from msgspec import Struct

from tanuki_cli.catalog import FAMILIES, PRACTICE_NAME, VARIANTS, Variant
from tanuki_cli.catalog.engines import Engines, MemoryPlan
from tanuki_cli.catalog.recommendation import Fit, Recommendation, fit, recommend
from tanuki_cli.hub import InstalledModel
from tanuki_cli.i18n import _
from tanuki_cli.loading.offers import missing_engine
from tanuki_cli.machine.hardware import Machine, format_bytes
from tanuki_cli.terminal.console import Console
from tanuki_cli.text.japanese import wrap_text
from tanuki_cli.text.sanitize import sanitize

_WIDE: Final = 64
"""Columns from which there is room for where a model runs and what it takes."""


class ModelRow(Struct, frozen=True, kw_only=True):
    """One model: of the catalog (``variant``), or pulled from elsewhere on the hub.

    ``exact`` tells whether ``size_bytes`` was read from the disk or the hub.
    """

    name: str
    variant: Variant | None
    size_bytes: int
    exact: bool
    installed: InstalledModel | None
    fit: Fit | None
    recommended: bool


class ModelListing(Struct, frozen=True, kw_only=True):
    """All models as one machine sees them."""

    rows: tuple[ModelRow, ...]
    machine: Machine
    recommendation: Recommendation
    context_length: int


def list_models(
    installed: Iterable[InstalledModel],
    machine: Machine,
    engines: Engines,
    plan: MemoryPlan,
    *,
    remote_sizes: Mapping[str, int],
) -> ModelListing:
    """The catalog and what else is installed. ``remote_sizes``: bytes by name, as the hub told them."""
    by_reference = {model.reference: model for model in installed}
    choice = recommend(machine, engines, plan)
    rows = [
        _catalog_row(
            variant,
            by_reference.get(variant),
            fit(variant, machine, engines, plan),
            remote_size=remote_sizes.get(variant.name),
            recommended=variant == choice.variant,
        )
        for variant in VARIANTS
    ]
    rows += [
        ModelRow(
            name=model.model.name,
            variant=None,
            size_bytes=model.size,
            exact=True,
            installed=model,
            fit=None,
            recommended=False,
        )
        for reference, model in by_reference.items()
        if not isinstance(reference, Variant)
    ]
    return ModelListing(
        rows=tuple(rows),
        machine=machine,
        recommendation=choice,
        context_length=plan.context_length,
    )


def _catalog_row(
    variant: Variant,
    installed: InstalledModel | None,
    place: Fit,
    *,
    remote_size: int | None,
    recommended: bool,
) -> ModelRow:
    exact = installed.size if installed is not None else remote_size
    return ModelRow(
        name=variant.name,
        variant=variant,
        size_bytes=exact if exact is not None else variant.approximate_bytes,
        exact=exact is not None,
        installed=installed,
        fit=place,
        recommended=recommended,
    )


def models_as_json(listing: ModelListing) -> dict[str, object]:
    """The listing with keys that do not change."""
    return {
        "context_length": listing.context_length,
        "recommended": listing.recommendation.variant.name if listing.recommendation.variant else None,
        "reason": listing.recommendation.reason,
        "machine": {
            "ram_bytes": listing.machine.ram_bytes,
            "available_ram_bytes": listing.machine.available_ram_bytes,
            "physical_cores": listing.machine.physical_cores,
            "gpus": [
                {"name": gpu.name, "total_bytes": gpu.total_bytes, "free_bytes": gpu.free_bytes}
                for gpu in listing.machine.gpus
            ],
        },
        "models": [_practice_json(), *map(_row_json, listing.rows)],
    }


def _practice_json() -> dict[str, object]:
    return {
        "name": PRACTICE_NAME,
        "practice": True,
        "installed": True,
        "path": None,
        "revision": None,
        "size_bytes": None,
        "size_exact": False,
        "repository": None,
        "file": None,
        "format": "gguf",
        "quantization": None,
        "engine": "llama.cpp",
        "place": "cpu",
        "memory_bytes": None,
        "runs": True,
        "refused": False,
        "caveat": None,
        "recommended": False,
    }


def _row_json(row: ModelRow) -> dict[str, object]:
    model = row.installed.model if row.installed else None
    variant, place = row.variant, row.fit
    return {
        "name": row.name,
        "practice": False,
        "installed": row.installed is not None,
        "path": str(model.path) if model else None,
        "revision": row.installed.commit if row.installed else None,
        "size_bytes": row.size_bytes,
        "size_exact": row.exact,
        "repository": variant.repository if variant else None,
        "file": variant.filename if variant else None,
        "format": variant.format if variant else (model.format if model else None),
        "quantization": variant.quantization if variant else (model.quantization if model else None),
        "engine": place.engine if place else None,
        "place": place.place if place else None,
        "memory_bytes": place.need_bytes if place else None,
        "runs": place.runs if place else None,
        "refused": variant.refused if variant else False,
        "caveat": _(variant.caveat) if variant and variant.caveat else None,
        "recommended": row.recommended,
    }


def print_models(console: Console, listing: ModelListing, *, all_models: bool) -> None:
    """The table on stdout: what is recommended or here, or ``all_models``, of which the refused share a line.

    Caveats stand below.
    """
    caveats: list[str] = []
    lines = [("✓", PRACTICE_NAME, "", _("practice"), "")]
    rows = [row for row in listing.rows if row.variant is None or not row.variant.refused]
    shown = rows if all_models else [row for row in rows if row.installed or row.recommended]
    lines += [_cells(row, caveats) for row in shown]
    lines += _refused(listing.rows, caveats) if all_models else ()
    columns = 5 if console.out.width >= _WIDE else 3
    table = rich.table.Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for heading in ("", _("Model"), _("Size"), _("Runs on"), _("Memory"))[:columns]:
        right = heading in (_("Size"), _("Memory"))
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for line in lines:
        table.add_row(*line[:columns])
    _print_table(console, table)
    console.out.print()
    for number, caveat in enumerate(caveats, 1):
        _print_wrapped(console, f"{number}) {caveat}")
    choice = listing.recommendation
    name = choice.variant.name if choice.variant else PRACTICE_NAME
    _print_wrapped(console, _("★ {name}: {reason}").format(name=name, reason=choice.reason))
    _print_wrapped(
        console,
        _("✓ installed · ≈ approximate size · memory with a context of {tokens} tokens").format(
            tokens=listing.context_length
        ),
    )
    if len(shown) < len(rows):
        _print_wrapped(
            console, _("{count} more models: tanuki models --all").format(count=len(rows) - len(shown))
        )


def _print_wrapped(console: Console, text: str) -> None:
    """``text`` broken by kinsoku on a terminal; in a pipe its lines stay whole."""
    lines = wrap_text(text, console.out.width) if console.out_is_terminal else [text]
    for line in lines:
        console.out.print(line, soft_wrap=True)


def _print_table(console: Console, table: rich.table.Table) -> None:
    """``table`` on a terminal, or into a pipe without the spaces that fill its last column."""
    if console.out_is_terminal:
        console.out.print(table)
        return
    with console.out.capture() as captured:
        console.out.print(table)
    for line in captured.get().splitlines():
        console.out.file.write(line.rstrip() + "\n")


def _cells(row: ModelRow, caveats: list[str]) -> tuple[str, str, str, str, str]:
    mark = f"{'✓' if row.installed else ' '}{'★' if row.recommended else ' '}"
    note = f" {_number(_(row.variant.caveat), caveats)})" if row.variant and row.variant.caveat else ""
    size = format_bytes(row.size_bytes)
    return (
        mark,
        sanitize(row.name) + note,
        size if row.exact else f"≈{size}",
        _runs_on(row, caveats),
        format_bytes(row.fit.need_bytes) if row.fit else "",
    )


def _runs_on(row: ModelRow, caveats: list[str]) -> str:
    if row.fit is None or row.variant is None:
        return ""
    # First what no package mends: nobody should install an engine for a model that it cannot hold.
    if row.fit.place is None:
        # Without any GPU memory the size is not what is wrong.
        needs_cuda = row.variant.family.cuda_only and row.fit.free_bytes == 0
        return _("needs CUDA") if needs_cuda else _("too large")
    if row.fit.engine is None:
        return f"– {_number(missing_engine(row.variant), caveats)})"
    return f"{row.fit.engine}, {row.fit.place.upper()}"


def _refused(rows: Sequence[ModelRow], caveats: list[str]) -> Iterable[tuple[str, str, str, str, str]]:
    for family in FAMILIES:
        variants = [row.variant for row in rows if row.variant is not None and row.variant.family is family]
        reason = next((variant.caveat for variant in variants if variant.refused), None)
        if reason is not None:
            yield ("", f"{family.name}:q… {_number(_(reason), caveats)})", "", _("refused"), "")


def _number(caveat: str, caveats: list[str]) -> int:
    if caveat not in caveats:
        caveats.append(caveat)
    return caveats.index(caveat) + 1
