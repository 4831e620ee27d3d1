"""The engines of this installation: what could run, known before anything is loaded."""

from collections.abc import Sequence

from tanuki_cli.catalog import PRACTICE_NAME
from tanuki_cli.engines.checking import InstalledEngine
from tanuki_cli.engines.llama_cpp.summary import LlamaCppSummary
from tanuki_cli.engines.transformers.summary import TransformersSummary
from tanuki_cli.machine.packages import LLAMA_CPP, pip_install


def installed_engines() -> Sequence[InstalledEngine]:
    """Look for the backends without importing any."""
    return (LlamaCppSummary.look(), TransformersSummary.look())


def practice_runs() -> bool:
    """Whether the practice model, a GGUF file, can be run."""
    return LlamaCppSummary.look().installed


def practice_command() -> str:
    """What starts a chat with the practice model, or else installs what runs it."""
    return f"tanuki chat -m {PRACTICE_NAME}" if practice_runs() else pip_install(LLAMA_CPP)
