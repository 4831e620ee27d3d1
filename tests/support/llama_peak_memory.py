"""A process of its own that loads a model as the program does, and prints what it took.

python -m tests.support.llama_peak_memory MODEL TOKENIZER CONTEXT_LENGTH
Prints JSON: the forecast and the peak, in bytes.
"""

import json
import resource
import sys
from pathlib import Path

import prompt_toolkit  # noqa: F401  # what a chat has loaded by then
import rich.markdown  # noqa: F401

import tanuki_cli.cli  # noqa: F401
from tanuki_cli.engines.llama_cpp.memory import forecast
from tanuki_cli.engines.llama_cpp.tuning import N_BATCH
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.llama_models import GREEDY, load


def peak_bytes() -> int:
    """The most memory this process had; getrusage alone would count its parent's on Linux."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    path, tokenizer_path, context_length = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    ChatTokenizer.from_file(tokenizer_path, bos_id=1, eos_id=2, vocab_size=1 << 20)
    model = load(path, Settings(context_length=context_length, threads=1))
    next(token_ids(model.generate([1] * (context_length - 1), GREEDY)))
    needs = forecast(model.facts, context_length=context_length, kv_type="f16", n_batch=N_BATCH)
    sys.stdout.write(json.dumps({"forecast": needs.host.total, "peak": peak_bytes()}))
    model.close()


if __name__ == "__main__":
    main()
