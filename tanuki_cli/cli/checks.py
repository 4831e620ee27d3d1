"""What ``tanuki doctor`` looks at beside the engines, and the order of it all.

Only one check changes anything: a damaged history file is set aside by being opened, as it would be by
the next chat.
"""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli import __version__
from tanuki_cli.catalog import TANUKI_8B, VARIANTS, LocalModel, Variant
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.catalog.recommendation import Recommendation, recommend
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.cli.remote_checks import check_remotes
from tanuki_cli.engines.checking import Check
from tanuki_cli.engines.consent import install_code_packages
from tanuki_cli.engines.installed import installed_engines, practice_command
from tanuki_cli.engines.llama_cpp.ik_package import check_ik
from tanuki_cli.engines.llama_cpp.selection import explain_choice
from tanuki_cli.engines.opening import read_tokenizer
from tanuki_cli.errors import SettingsError, TanukiError
from tanuki_cli.files import os_reason
from tanuki_cli.history import HistoryStore
from tanuki_cli.hub import Hub, InstalledModel
from tanuki_cli.hub.code import code_files, missing_packages
from tanuki_cli.i18n import _, plural
from tanuki_cli.loading.offers import memory_plan
from tanuki_cli.machine.hardware import Machine, format_bytes, free_disk_bytes, inspect_machine
from tanuki_cli.machine.packages import LLAMA_CPP, pip_install
from tanuki_cli.settings.values import Settings, load_settings
from tanuki_cli.terminal.console import Console
from tanuki_cli.tokenizer import ChatTokenizer, verify_tokenizer

_PACKAGES: Final = (LLAMA_CPP, "tokenizers", "huggingface_hub", "prompt_toolkit", "rich", "typer")
_EXTRA_PACKAGES: Final = ("torch", "transformers", "accelerate", "gptqmodel", "optimum")


class Findings(Struct, frozen=True, kw_only=True):
    """What several checks need, looked up once."""

    machine: Machine
    recommendation: Recommendation
    hub: Hub


def examine(context: CommandContext) -> Iterator[Check]:
    """All checks, in the order they are shown, each as soon as it is known."""
    machine, engines = inspect_machine(context.environ), installed_engines()
    findings = Findings(
        machine=machine,
        recommendation=recommend(machine, engines, memory_plan(context.settings)),
        hub=Hub.from_environment(
            context.environ, context.directories, offline=context.settings.offline, waits=()
        ),
    )
    yield check_program()
    yield check_packages()
    yield check_machine(findings)
    yield check_disk(findings)
    yield check_gpu(machine)
    for engine in engines:
        yield engine.check(machine)
    yield from check_ik(chosen=context.settings.engine == "ik")
    yield check_hub(context, findings)
    yield from check_models(context, findings)
    yield from check_remotes(context, findings.hub.reference_tokenizer(TANUKI_8B))
    yield check_settings(context)
    yield check_history(context)
    yield check_terminal(context.console, context.environ)
    yield check_language(context.settings, context.environ)


def check_program() -> Check:
    """This program and the Python that runs it."""
    detail = _("tanuki {version}, Python {python} ({executable}), {system}").format(
        version=__version__,
        python=platform.python_version(),
        executable=sys.executable,
        system=platform.platform(terse=True),
    )
    return Check(name="program", status="ok", detail=detail)


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


def check_machine(findings: Findings) -> Check:
    """Memory and cores, and what they are enough for."""
    machine, choice = findings.machine, findings.recommendation
    detail = _("{cores} cores, {available} of {ram} memory free. {reason}").format(
        cores=machine.physical_cores,
        available=format_bytes(machine.available_ram_bytes),
        ram=format_bytes(machine.ram_bytes),
        reason=choice.reason
        if choice.variant is None
        else _("Recommended: {name}.").format(name=choice.variant.name),
    )
    if choice.variant is None:
        return Check(name="machine", status="warn", detail=detail, fix=practice_command())
    return Check(name="machine", status="ok", detail=detail)


def check_disk(findings: Findings) -> Check:
    """Room for the recommended model where models are kept."""
    root, variant = findings.hub.cache.root, findings.recommendation.variant
    try:
        free = free_disk_bytes(root)
    except OSError as exc:
        return Check(name="disk", status="fail", detail=f"{root}: {os_reason(exc)}", fix=f"ls -ld {root}")
    detail = _("{free} free for models in {path}.").format(free=format_bytes(free), path=root)
    installed = {entry.reference for entry in findings.hub.installed()}
    if variant is not None and variant not in installed and free < variant.approximate_bytes:
        need = _("{name} needs about {size}.").format(
            name=variant.name, size=format_bytes(variant.approximate_bytes)
        )
        fix = _("Make room, or keep models on another disk: export HF_HOME=/path/to/disk")
        return Check(name="disk", status="warn", detail=f"{detail} {need}", fix=fix)
    return Check(name="disk", status="ok", detail=detail)


def check_gpu(machine: Machine) -> Check:
    """GPUs that this process may use."""
    found = ", ".join(
        _("{name} ({free} of {total} free)").format(
            name=gpu.name, free=format_bytes(gpu.free_bytes), total=format_bytes(gpu.total_bytes)
        )
        for gpu in machine.gpus
    )
    return Check(name="gpu", status="ok", detail=found or _("No usable GPU; models run on the CPU."))


def check_hub(context: CommandContext, findings: Findings) -> Check:
    """Whether the hub answers, asked for the recommended model and nothing else."""
    if context.settings.offline or context.environ.get("HF_HUB_OFFLINE", "0") not in {"", "0"}:
        return Check(name="hub", status="ok", detail=_("Not asked: offline."))
    variant = findings.recommendation.variant or _smallest()
    try:
        sizes = findings.hub.remote_sizes((variant,))
    except TanukiError as exc:
        return Check(name="hub", status="warn", detail=exc.message, fix=exc.hint)
    size = format_bytes(sizes[variant.name]) if variant.name in sizes else "?"
    detail = _("It answers; {name} is {size}.").format(name=variant.name, size=size)
    return Check(name="hub", status="ok", detail=detail)


def _smallest() -> Variant:
    family = [variant for variant in VARIANTS if variant.family is TANUKI_8B]
    return min(family, key=lambda variant: variant.approximate_bytes)


def check_models(context: CommandContext, findings: Findings) -> Iterator[Check]:
    """Every model on this machine: are its files whole, does its tokenizer pass the self-test, and what
    computes it where there is a choice?"""
    yield check_practice_model()
    reference = findings.hub.reference_tokenizer(TANUKI_8B)
    for entry in findings.hub.installed():
        model = replace(entry.model, reference_tokenizer=entry.model.reference_tokenizer or reference)
        check = _check_installed(entry, model, verified=findings.hub.is_verified(entry))
        if context.settings.engine == "auto" and model.format == "gguf" and check.status == "ok":
            choice = explain_choice(model.path, context.directories.cache)
            check = replace(check, detail=f"{check.detail} {choice}") if choice else check
        yield check


def check_practice_model() -> Check:
    """The model inside the package."""
    model = practice_model()
    try:
        _tested_tokenizer(model)
    except TanukiError as exc:
        return Check(name="model:mame", status="fail", detail=exc.message, fix=exc.hint or model.get_again)
    return Check(name="model:mame", status="ok", detail=_("The tokenizer passes its self-test."))


def _check_installed(entry: InstalledModel, model: LocalModel, *, verified: bool) -> Check:
    name = entry.reference.name
    try:
        tokenizer = _tested_tokenizer(model)
    except TanukiError as exc:
        return Check(name=f"model:{name}", status="fail", detail=exc.message, fix=model.get_again)
    if verified:
        detail = _("All files are there ({size}), their digests were checked; the tokenizer is right.")
    else:
        detail = _("All files are there ({size}), the tokenizer is right; digests: {command}")
    text = detail.format(size=format_bytes(entry.size), command=model.get_again)
    if tokenizer.switched_off:
        note = _(
            "Its tokenizer.json has sections that are not followed, as they would change prompts: {names}."
        )
        text = f"{text} {note.format(names=', '.join(tokenizer.switched_off))}"
    check = Check(name=f"model:{name}", status="ok", detail=text)
    files = code_files(model.path) if model.format == "safetensors" else ()
    return _with_code(check, files) if files else check


def _with_code(check: Check, files: Sequence[Path]) -> Check:
    """``check`` of a model that is whole but brings the Python ``files``."""
    names = ", ".join(path.name for path in files)
    if missing := missing_packages(files):
        note = _("Its own code ({files}) needs packages that are not installed: {packages}.").format(
            files=names, packages=", ".join(missing)
        )
        fix = install_code_packages(missing)
        return Check(name=check.name, status="warn", detail=f"{check.detail} {note}", fix=fix)
    note = _("It runs code of its own ({files}), after asking you.").format(files=names)
    return replace(check, detail=f"{check.detail} {note}")


def _tested_tokenizer(model: LocalModel) -> ChatTokenizer:
    """The model's tokenizer. Raises EngineError for one that does not pass its self-test."""
    tokenizer = read_tokenizer(model)
    verify_tokenizer(tokenizer)
    return tokenizer


def check_settings(context: CommandContext) -> Check:
    """The config file and the variables that override it."""
    path = context.directories.config_file
    try:
        load_settings(context.environ, path)
    except SettingsError as exc:
        return Check(name="settings", status="fail", detail=exc.message, fix=exc.hint)
    missing = _("{path} (not there; the defaults hold)").format(path=path)
    return Check(name="settings", status="ok", detail=str(path) if path.exists() else missing)


def check_history(context: CommandContext) -> Check:
    """The history file: whole, readable, and to be written."""
    path = context.directories.history_file
    notices: list[str] = []
    try:
        with HistoryStore(path, notify=notices.append) as store:
            count = len(store.list())
    except TanukiError as exc:
        return Check(name="history", status="fail", detail=exc.message, fix=exc.hint)
    if notices:
        return Check(name="history", status="warn", detail=notices[0], fix="tanuki history recover")
    # An old history can be read where no new turn can be saved: that must be known before a long chat.
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not os.access(nearest, os.W_OK):
        detail = _("The history {path} cannot be written: {reason}").format(
            path=path, reason=_("it can be read, but not written")
        )
        return Check(name="history", status="warn", detail=detail, fix=f"ls -ld {nearest}")
    detail = plural(count, "{count} conversation in {path}", _("{count} conversations in {path}")).format(
        count=count, path=path
    )
    return Check(name="history", status="ok", detail=detail)


def check_terminal(console: Console, environ: Mapping[str, str]) -> Check:
    """What the terminal can show; it is asked how wide ambiguous characters are."""
    encoding = (console.streams.stdout.encoding or "ascii").lower()
    parts = [environ.get("TERM", "?"), encoding]
    if console.out_is_terminal:
        console.measure_terminal()
        parts += [
            _("{columns} columns").format(columns=shutil.get_terminal_size().columns),
            _("characters of ambiguous width take {cells}").format(cells=console.ambiguous_width),
        ]
    else:
        parts.append(_("not a terminal"))
    parts.append(_("colours") if console.out_has_color else _("no colours"))
    detail = ", ".join(parts)
    if not can_encode("日本語", encoding):
        text = _("{detail}. This encoding has no Japanese.").format(detail=detail)
        return Check(name="terminal", status="warn", detail=text, fix="export LC_ALL=C.UTF-8")
    return Check(name="terminal", status="ok", detail=detail)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def can_encode(text: str, encoding: str) -> bool:
    """Whether every character of ``text`` exists in ``encoding``; False for an unknown one."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def check_language(settings: Settings, environ: Mapping[str, str]) -> Check:
    """The language of the messages, and what chose it."""
    names = ("TANUKI_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    variable = next((f"{name}={environ[name]}" for name in names if environ.get(name)), None)
    # An option, or config.toml, where it is not the variable that speaks for both.
    overruled = settings.lang and settings.lang != environ.get(names[0])
    chosen = f"lang = {settings.lang}" if overruled else variable
    language = _("Messages are in English")
    return Check(name="language", status="ok", detail=f"{language} ({chosen})" if chosen else language)
