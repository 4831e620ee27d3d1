"""What ``tanuki doctor`` looks at beside the engines, and the order of it all.

Only one check changes anything: a damaged history file is set aside by being opened, as it would be by
the next chat.
"""

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tanuki_cli import __version__
from tanuki_cli.catalog import TANUKI_8B, VARIANTS, LocalModel, Recommendation, Variant, recommend
from tanuki_cli.cli.check import Check
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.cli.engine_checks import check_gpu, check_llama_cpp, check_packages, check_transformers
from tanuki_cli.engines import gguf_tokenizer
from tanuki_cli.engines.checkpoint import read_checkpoint
from tanuki_cli.engines.gguf import read_gguf
from tanuki_cli.engines.llama_facts import model_facts
from tanuki_cli.errors import SettingsError, TanukiError
from tanuki_cli.hardware import (
    Engines,
    Machine,
    format_bytes,
    free_disk_bytes,
    inspect_machine,
    installed_engines,
)
from tanuki_cli.history import HistoryStore
from tanuki_cli.hub import Hub
from tanuki_cli.i18n import _, active_language
from tanuki_cli.practice import practice_model
from tanuki_cli.settings import DEFAULT_CONTEXT_LENGTH, load_settings
from tanuki_cli.terminal.probe import TerminalFacts
from tanuki_cli.tokenizer import ChatTokenizer, verify_tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What several checks need, looked up once."""

    machine: Machine
    engines: Engines
    recommendation: Recommendation
    hub: Hub


def examine(context: CommandContext, terminal: TerminalFacts) -> Iterator[Check]:
    """All checks, in the order they are shown, each as soon as it is known."""
    machine, engines = inspect_machine(context.environ), installed_engines()
    context_length = context.settings.context_length or DEFAULT_CONTEXT_LENGTH
    findings = Findings(
        machine=machine,
        engines=engines,
        recommendation=recommend(machine, engines, context_length=context_length),
        hub=Hub.from_environment(
            context.environ, context.directories, offline=context.settings.offline, waits=()
        ),
    )
    yield check_program()
    yield check_packages()
    yield check_machine(findings)
    yield check_disk(findings)
    yield check_gpu(machine)
    yield check_llama_cpp(machine, engines)
    yield check_transformers(machine, engines)
    yield check_hub(context, findings)
    yield from check_models(findings)
    yield check_settings(context)
    yield check_history(context)
    yield check_terminal(terminal)
    yield check_language(terminal)


def check_program() -> Check:
    """This program and the Python that runs it."""
    detail = _("tanuki {version}, Python {python} ({executable}), {system}").format(
        version=__version__,
        python=platform.python_version(),
        executable=sys.executable,
        system=platform.platform(terse=True),
    )
    return Check(name="program", status="ok", detail=detail)


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
        return Check(name="machine", status="warn", detail=detail, fix="tanuki chat -m mame")
    return Check(name="machine", status="ok", detail=detail)


def check_disk(findings: Findings) -> Check:
    """Room for the recommended model where models are kept."""
    root, variant = findings.hub.cache.root, findings.recommendation.variant
    try:
        free = free_disk_bytes(root)
    except OSError as exc:
        return Check(name="disk", status="fail", detail=f"{root}: {exc.strerror}", fix=f"ls -ld {root}")
    detail = _("{free} free for models in {path}.").format(free=format_bytes(free), path=root)
    installed = {entry.reference for entry in findings.hub.installed()}
    if variant is not None and variant not in installed and free < variant.approximate_bytes:
        need = _("{name} needs about {size}.").format(
            name=variant.name, size=format_bytes(variant.approximate_bytes)
        )
        fix = _("Make room, or keep models on another disk: export HF_HOME=/path/to/disk")
        return Check(name="disk", status="warn", detail=f"{detail} {need}", fix=fix)
    return Check(name="disk", status="ok", detail=detail)


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


def check_models(findings: Findings) -> Iterator[Check]:
    """Every model on this machine: are its files whole, does its tokenizer pass the self-test?"""
    yield _check_model("mame", practice_model(), size=None)
    reference = findings.hub.reference_tokenizer(TANUKI_8B)
    for entry in findings.hub.installed():
        model = replace(entry.model, reference_tokenizer=entry.model.reference_tokenizer or reference)
        yield _check_model(entry.reference.name, model, size=entry.size)


def _check_model(name: str, model: LocalModel, *, size: int | None) -> Check:
    try:
        verify_tokenizer(load_tokenizer(model))
    except TanukiError as exc:
        fix = exc.hint if size is None else f"tanuki pull {name} --verify"
        return Check(name=f"model:{name}", status="fail", detail=exc.message, fix=fix)
    detail = _("The tokenizer passes its self-test.")
    if size is not None:
        detail = _("All files are there ({size}).").format(size=format_bytes(size)) + " " + detail
    return Check(name=f"model:{name}", status="ok", detail=detail)


def load_tokenizer(model: LocalModel) -> ChatTokenizer:
    """The exact tokenizer of a model, without its weights. Raises EngineError."""
    if model.format == "gguf":
        gguf = read_gguf(model.path)
        return gguf_tokenizer(model, gguf, model_facts(gguf))
    info = read_checkpoint(model.path)
    path = model.tokenizer or model.path / "tokenizer.json"
    return ChatTokenizer.from_file(path, bos_id=info.bos_id, eos_id=info.eos_id, vocab_size=info.vocab_size)


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
    """The history file: whole, readable, private."""
    path = context.directories.history_file
    notices: list[str] = []
    try:
        with HistoryStore(path, notify=notices.append) as store:
            count = len(store.list())
    except TanukiError as exc:
        return Check(name="history", status="fail", detail=exc.message, fix=exc.hint)
    if notices:
        return Check(name="history", status="warn", detail=notices[0], fix="tanuki history recover")
    detail = _("{count} conversations in {path}").format(count=count, path=path)
    return Check(name="history", status="ok", detail=detail)


def check_terminal(facts: TerminalFacts) -> Check:
    """What the terminal can show."""
    parts = [
        facts.term or "?",
        facts.encoding,
        _("{columns} columns").format(columns=facts.columns) if facts.columns else _("not a terminal"),
        _("colours") if facts.colors else _("no colours"),
    ]
    detail = ", ".join(parts)
    if not facts.speaks_japanese:
        fix = "export LANG=C.UTF-8"
        text = _("{detail}. This encoding has no Japanese.").format(detail=detail)
        return Check(name="terminal", status="warn", detail=text, fix=fix)
    if facts.ambiguous_width == 2:
        return Check(
            name="terminal",
            status="warn",
            detail=_("{detail}. Characters of ambiguous width take two cells here.").format(detail=detail),
            fix=_("Set ambiguous-width characters to 1 (narrow) in the settings of the terminal."),
        )
    return Check(name="terminal", status="ok", detail=detail)


def check_language(facts: TerminalFacts) -> Check:
    """The language of the messages."""
    if active_language() == "ja" and not facts.speaks_japanese:
        detail = _("Messages are in Japanese, which this terminal cannot show.")
        return Check(name="language", status="warn", detail=detail, fix="tanuki config set lang en")
    language = _("Messages are in English.")
    return Check(name="language", status="ok", detail=language)
