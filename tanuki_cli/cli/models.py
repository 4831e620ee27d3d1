"""``tanuki pull``, ``tanuki models`` and ``tanuki rm``."""

import json
from dataclasses import dataclass
from typing import Annotated

import typer

from tanuki_cli.catalog import (
    PRACTICE_NAME,
    TANUKI_8B,
    VARIANTS,
    AutoReference,
    Downloadable,
    Family,
    FamilyReference,
    HubReference,
    PracticeReference,
    Variant,
    best_installed,
    parse_reference,
    recommend,
)
from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.obstacle import note_obstacle
from tanuki_cli.cli.options import OutputOptions, model_names, takes
from tanuki_cli.errors import ClosedPipeError, DownloadError, InputError, ModelError, TanukiError
from tanuki_cli.hub import Hub, InstalledModel
from tanuki_cli.i18n import N_, _
from tanuki_cli.machine.hardware import format_bytes, inspect_machine, installed_engines
from tanuki_cli.machine.packages import LLAMA_CPP, pip_install
from tanuki_cli.settings.values import DEFAULT_CONTEXT_LENGTH
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.download_events import DownloadEvents
from tanuki_cli.terminal.model_table import list_models, models_as_json, print_models

pull_app = typer.Typer(add_completion=False)
models_app = typer.Typer(add_completion=False)
rm_app = typer.Typer(add_completion=False)

_PULL_HELP = N_(
    """Download a model, or finish a download.

Examples:
  tanuki pull
  tanuki pull tanuki-8b:q4_k_m
  tanuki pull hf:owner/repo/file.gguf
  tanuki pull tanuki-8b:q4_k_m --verify

A download that was interrupted resumes. A model that is whole already is left alone."""
)
_MODELS_HELP = N_(
    """List the models, their sizes and what fits this machine.

Examples:
  tanuki models
  tanuki models --remote
  tanuki models --json | jq -r '.models[] | select(.installed) | .name'"""
)
_RM_HELP = N_(
    """Remove a downloaded model.

Examples:
  tanuki rm tanuki-8b:q4_k_m
  tanuki rm --yes hf:owner/repo

Files that another model needs, such as the tokenizer, stay."""
)


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(OutputOptions):
    """Whether the network may be used."""

    offline: Annotated[bool, typer.Option("--offline", help=N_("Never touch the network for a model."))] = (
        False
    )


@dataclass(frozen=True, kw_only=True)
class ListOptions(NetworkOptions):
    """For which conversations the memory must suffice."""

    context_length: Annotated[
        str | None, typer.Option(metavar="128-1048576", help=N_("Tokens that prompt and answer share."))
    ] = None


@pull_app.command(help=_PULL_HELP)
@takes(NetworkOptions)
def pull(
    ctx: typer.Context,
    options: NetworkOptions,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help=N_("The model; by default the one that suits this machine."),
            autocompletion=model_names,
        ),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=N_("Branch, tag or commit; pinned for later pulls.")),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help=N_("Read every file again and replace damaged ones."))
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help=N_("Print the progress as JSON, one object a line."))
    ] = False,
) -> None:
    """Download a model, or finish a download."""
    context = prepare(ctx, options)
    hub = _hub(context)
    text = model or context.settings.model
    reference = parse_reference(text, context.settings.remotes)
    if isinstance(reference, PracticeReference):
        context.console.note(_("The practice model is part of tanuki; there is nothing to download."))
        return
    if isinstance(reference, (AutoReference, FamilyReference)):
        family = reference.family if isinstance(reference, FamilyReference) else TANUKI_8B
        reference = _choose(context, hub, family, ask=model is None)
    if not isinstance(reference, (Variant, HubReference)):
        raise InputError(
            _("{name} is not something to download.").format(name=text), hint=_("All names: tanuki models")
        )
    if as_json:
        _pull_with_events(context.console, hub, reference, revision=revision, verify=verify)
        return
    if isinstance(reference, Variant):
        note_obstacle(reference, context)
    pull_with_progress(context.console, hub, reference, revision=revision, verify=verify)


def _pull_with_events(
    console: Console, hub: Hub, reference: Downloadable, *, revision: str | None, verify: bool
) -> None:
    events = DownloadEvents(console)
    try:
        events.finish(hub.pull(reference, revision=revision, verify=verify, on_progress=events.update))
    except ClosedPipeError:
        raise
    except TanukiError as error:
        events.fail(error)
        raise


def pull_with_progress(
    console: Console, hub: Hub, reference: Downloadable, *, revision: str | None = None, verify: bool = False
) -> InstalledModel:
    """Pull ``reference`` with its progress on stderr. Raises as :meth:`Hub.pull`."""
    before = hub.locate(reference)
    from tanuki_cli.terminal.download import DownloadProgress  # brings rich.progress

    with DownloadProgress(console) as progress:
        installed = hub.pull(reference, revision=revision, verify=verify, on_progress=progress.update)
    facts = {
        "name": reference.name,
        "size": format_bytes(installed.size),
        "revision": installed.commit[:7],
    }
    if before is not None and before.path == installed.model.path and not progress.shown:
        console.note(_("{name} is whole: {size}, revision {revision}.").format(**facts))
    else:
        console.note(_("{name} is ready: {size}, revision {revision}.").format(**facts), style="success")
    return installed


def best_or_recommended(
    context: CommandContext, hub: Hub, family: Family | None
) -> InstalledModel | tuple[Variant, str]:
    """The installed variant that suits this machine best, else the recommended one with the reason.

    ``family`` None counts everything that is installed. Raises ModelError if nothing can run here.
    """
    machine, engines = inspect_machine(context.environ), installed_engines()
    length = context.settings.context_length or DEFAULT_CONTEXT_LENGTH
    installed = {
        entry.reference: entry
        for entry in hub.installed()
        if isinstance(entry.reference, Variant) and family in (None, entry.reference.family)
    }
    if best := best_installed(list(installed), machine, engines, context_length=length):
        return installed[best]
    choice = recommend(machine, engines, context_length=length, family=family or TANUKI_8B)
    if choice.variant is None:
        if family is not None and family.cuda_only:
            hint = _("Serve it with a vLLM built for it: tanuki chat -m http://host:8000/v1")
        else:
            hint = f"tanuki chat -m {PRACTICE_NAME}" if engines.llama_cpp else pip_install(LLAMA_CPP)
        raise ModelError(choice.reason, hint=hint)
    return choice.variant, choice.reason


def _choose(context: CommandContext, hub: Hub, family: Family, *, ask: bool) -> Downloadable:
    """The best installed variant, which a pull then checks, else the recommended one."""
    choice = best_or_recommended(context, hub, family)
    if isinstance(choice, InstalledModel):
        return choice.reference
    variant, reason = choice
    console = context.console
    size = format_bytes(variant.approximate_bytes)
    console.note(_("{name}, about {size}. {reason}").format(name=variant.name, size=size, reason=reason))
    if ask and console.can_ask and not console.confirm(_("Download it now?"), default=True):
        raise ModelError(_("Nothing was downloaded."), hint=_("Choose another one: tanuki models"))
    return variant


@models_app.command(help=_MODELS_HELP)
@takes(ListOptions)
def models(
    ctx: typer.Context,
    options: ListOptions,
    as_json: Annotated[bool, typer.Option("--json", help=N_("Print one JSON object."))] = False,
    remote: Annotated[bool, typer.Option("--remote", help=N_("Ask the hub for the exact sizes."))] = False,
) -> None:
    """List the models."""
    context = prepare(ctx, options)
    hub = _hub(context)
    try:
        sizes = hub.remote_sizes(VARIANTS) if remote else {}
    except DownloadError as exc:
        # The hints of a download are about a pull; the list itself needs no hub.
        raise DownloadError(exc.message, hint="tanuki models") from exc
    listing = list_models(
        hub.installed(),
        inspect_machine(context.environ),
        installed_engines(),
        context_length=context.settings.context_length or DEFAULT_CONTEXT_LENGTH,
        remote_sizes=sizes,
    )
    if as_json:
        context.console.write(json.dumps(models_as_json(listing), ensure_ascii=False, indent=2) + "\n")
    else:
        print_models(context.console, listing)


@rm_app.command(help=_RM_HELP)
@takes(OutputOptions)
def rm(
    ctx: typer.Context,
    options: OutputOptions,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help=N_("The model, e.g. tanuki-8b:q4_k_m."), autocompletion=model_names
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help=N_("Do not ask."))] = False,
) -> None:
    """Remove a downloaded model."""
    context = prepare(ctx, options)
    console, hub = context.console, _hub(context)
    reference = parse_reference(model, context.settings.remotes)
    if not isinstance(reference, (Variant, HubReference)):
        raise ModelError(
            _("{name} is not a downloaded model.").format(name=model),
            hint=_("See what is installed: tanuki models"),
        )
    installed = next((entry for entry in hub.installed() if entry.reference == reference), None)
    hub.check_removable(reference)
    if not yes:
        if not console.can_ask:
            raise InputError(_("There is no terminal to ask on."), hint=f"tanuki rm --yes {reference.name}")
        size = format_bytes(installed.size) if installed else _("unfinished")
        if not console.confirm(
            _("Remove {name} ({size})?").format(name=reference.name, size=size), default=False
        ):
            console.note(_("Nothing was removed."))
            return
    freed = hub.remove(reference)
    console.note(
        _("{name} was removed; {size} are free again.").format(name=reference.name, size=format_bytes(freed)),
        style="success",
    )


def _hub(context: CommandContext) -> Hub:
    return Hub.from_environment(context.environ, context.directories, offline=context.settings.offline)
