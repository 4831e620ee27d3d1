"""``tanuki pull``, ``tanuki models`` and ``tanuki rm``."""

import os
from typing import Annotated, ClassVar

import typer

from tanuki_cli.catalog import (
    TANUKI_8B,
    VARIANTS,
    AutoReference,
    Downloadable,
    Family,
    FamilyReference,
    HubReference,
    PathReference,
    PracticeReference,
    Reference,
    Variant,
    parse_reference,
)
from tanuki_cli.cli.completing import model_names
from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.options import OutputOptions, Scopes, takes
from tanuki_cli.cli.repacked import keep_repacked, remove_repacked, remove_stale, require_repackable
from tanuki_cli.engines.installed import installed_engines
from tanuki_cli.errors import ClosedPipeError, DownloadError, InputError, ModelError, TanukiError
from tanuki_cli.hub import Hub, InstalledModel
from tanuki_cli.i18n import N_, _
from tanuki_cli.loading import Finder, fetch, fetch_tokenizer
from tanuki_cli.loading.offers import lasting_obstacle, memory_plan
from tanuki_cli.machine.hardware import format_bytes, inspect_machine
from tanuki_cli.settings.values import Directories
from tanuki_cli.terminal.asker import TerminalAsker
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
  tanuki pull tanuki-8b --tokenizer-only
  tanuki pull tanuki-8b:q4_k_m --repack

A download that was interrupted resumes. A model that is whole already is left alone."""
)
_MODELS_HELP = N_(
    """List the models, their sizes and what fits this machine.

Examples:
  tanuki models
  tanuki models --all
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


class NetworkOptions(OutputOptions):
    """Whether the network may be used."""

    scopes: ClassVar[Scopes] = ("network",)


class ListOptions(NetworkOptions):
    """For which conversations the memory must suffice."""

    scopes: ClassVar[Scopes] = ("memory",)


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
    tokenizer_only: Annotated[
        bool,
        typer.Option(
            "--tokenizer-only",
            help=N_("Fetch only the tokenizer (4 MB), for a server that runs the model."),
        ),
    ] = False,
    repack: Annotated[
        bool,
        typer.Option(
            "--repack",
            help=N_(
                "Also keep a GGUF as ik_llama.cpp computes with it: twice the disk space, quicker prompts."
            ),
        ),
    ] = False,
) -> None:
    """Download a model, or finish a download."""
    context = prepare(ctx, options)
    console = context.console
    asker = TerminalAsker(console=console, assume_yes=True)
    finder = Finder(context.settings, environ=context.environ, directories=context.directories, asker=asker)
    text = model or context.settings.model
    reference = parse_reference(text, context.settings.remotes)
    if tokenizer_only:
        if as_json or revision or repack:
            raise InputError(
                _("--tokenizer-only goes with none of --json, --revision and --repack."),
                hint=TANUKI_8B.tokenizer_command,
            )
        _pull_tokenizer(finder, asker, reference, verify=verify)
        return
    if repack and as_json:
        raise InputError(_("--repack does not go with --json."), hint=f"tanuki pull --repack {text}")
    if repack and isinstance(reference, (PathReference, PracticeReference)):  # nothing to download
        keep_repacked(context, finder.find(text))
        return
    if isinstance(reference, PracticeReference):
        console.note(_("The practice model is part of tanuki; there is nothing to download."))
        return
    if isinstance(reference, (AutoReference, FamilyReference)):
        family = reference.family if isinstance(reference, FamilyReference) else TANUKI_8B
        reference = _choose(finder, console, family, ask=model is None)
    if not isinstance(reference, (Variant, HubReference)):
        raise InputError(
            _("{name} is not something to download.").format(name=text), hint=_("All names: tanuki models")
        )
    if repack:
        require_repackable(reference)
    if as_json:
        _pull_with_events(console, finder.hub, reference, revision=revision, verify=verify)
        return
    if isinstance(reference, Variant):
        machine = inspect_machine(context.environ)
        if reason := lasting_obstacle(reference, machine, memory_plan(context.settings)):
            console.warn(reason)
    installed = fetch(finder.hub, reference, asker, revision=revision, verify=verify)
    if repack:
        keep_repacked(context, installed.model)


def _pull_tokenizer(finder: Finder, asker: TerminalAsker, reference: Reference, *, verify: bool) -> None:
    if isinstance(reference, AutoReference):
        family = TANUKI_8B
    elif isinstance(reference, (FamilyReference, Variant)):
        family = reference.family
    else:
        raise InputError(_("--tokenizer-only is for the models of Tanuki."), hint=TANUKI_8B.tokenizer_command)
    fetch_tokenizer(finder.hub, family, asker, verify=verify)


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


def _choose(finder: Finder, console: Console, family: Family, *, ask: bool) -> Downloadable:
    """The best installed variant, which a pull then checks, else the recommended one."""
    choice = finder.best_or_recommended(family)
    if isinstance(choice, InstalledModel) or not isinstance(choice.reference, Variant):
        return choice.reference
    variant = choice.reference
    size = format_bytes(variant.approximate_bytes)
    console.note(
        _("{name}, about {size}. {reason}").format(name=variant.name, size=size, reason=choice.reason)
    )
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
    all_models: Annotated[
        bool, typer.Option("--all", "-a", help=N_("List every model there is; --json always does."))
    ] = False,
) -> None:
    """List the models that are recommended or installed, or all."""
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
        memory_plan(context.settings),
        remote_sizes=sizes,
    )
    if as_json:
        context.console.write_json(models_as_json(listing), indent=2)
    else:
        print_models(context.console, listing, all_models=all_models)


def _installed_names(incomplete: str) -> list[str]:
    """The installed models whose names begin so, for the shell's completion."""
    directories = Directories.from_environment(os.environ)
    installed = Hub.from_environment(os.environ, directories, offline=True).installed()
    return [model.model.name for model in installed if model.model.name.startswith(incomplete.lower())]


@rm_app.command(help=_RM_HELP)
@takes(OutputOptions)
def rm(
    ctx: typer.Context,
    options: OutputOptions,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help=N_("The model, e.g. tanuki-8b:q4_k_m."), autocompletion=_installed_names
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help=N_("Do not ask."))] = False,
    repacked: Annotated[
        bool, typer.Option("--repacked", help=N_("Remove only the copy that pull --repack made."))
    ] = False,
) -> None:
    """Remove a downloaded model."""
    context = prepare(ctx, options)
    console, hub = context.console, _hub(context)
    reference = parse_reference(model, context.settings.remotes)
    if repacked:
        remove_repacked(context, model)
        return
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
    freed = hub.remove(reference) + remove_stale(context)
    console.note(
        _("{name} was removed; {size} are free again.").format(name=reference.name, size=format_bytes(freed)),
        style="success",
    )


def _hub(context: CommandContext) -> Hub:
    return Hub.from_environment(context.environ, context.directories, offline=context.settings.offline)
