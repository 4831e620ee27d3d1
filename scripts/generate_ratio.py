"""How fast our decode loop is beside transformers' ``model.generate`` on the same weights.

    python -m scripts.generate_ratio                 the practice model, and a wider random one
    python -m scripts.generate_ratio --model DIR     a checkpoint of yours
    python -m scripts.generate_ratio --rounds 3      each in so many rounds

Greedy answers of 128 tokens to prompts of 100, ours and theirs in turn, the prompt included; a round's
figure is the ratio of the quickest of five, and 1 means equally fast.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from scripts.gpu_measure import SMALL, ratio_to_generate
from scripts.make_synthetic_checkpoint import write_checkpoint
from scripts.practice.export import read_gguf
from scripts.practice.formats import write_safetensors
from tanuki_cli.catalog import LocalModel
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.engines.transformers.checkpoint import read_checkpoint
from tanuki_cli.engines.transformers.loader import load_transformers
from tanuki_cli.settings.values import Settings

WIDER = replace(SMALL, n_embd=1024, n_ff=3584, n_layer=8, n_head=8, n_kv_head=2)


def checkpoints(folder: Path) -> Iterator[tuple[str, Path]]:
    """The two models that are measured by default, written under ``folder``."""
    model = practice_model()
    assert model.tokenizer is not None
    write_safetensors(folder / "practice", *read_gguf(model.path), model.tokenizer)
    yield "practice model, f32", folder / "practice"
    write_checkpoint(folder / "wider", WIDER, "full", device="cpu")
    yield f"random, {WIDER.n_layer} layers of {WIDER.n_embd}, bf16", folder / "wider"


def ratios(path: Path, settings: Settings, *, rounds: int) -> list[float]:
    """One ratio a round."""
    vocab_size = read_checkpoint(path).vocab_size
    local = LocalModel(name=path.name, format="safetensors", path=path)
    with closing(load_transformers(local, settings, debug=False)) as model:
        return [ratio_to_generate(model, model.network, vocab_size=vocab_size) for _round in range(rounds)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, action="append", help="a checkpoint; may be repeated")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cpu", action="store_true", help="not on a GPU, even where there is one")
    parser.add_argument("--threads", type=int, help="CPU threads; the physical cores by default")
    options = parser.parse_args(arguments)
    settings = Settings(gpu_layers=0 if options.cpu else None, threads=options.threads, context_length=1024)
    with tempfile.TemporaryDirectory() as folder:
        own = [(str(path), path) for path in options.model or ()]
        for name, path in own or checkpoints(Path(folder)):
            found = ratios(path, settings, rounds=options.rounds)
            print(f"{name}: {', '.join(f'{value:.3f}' for value in found)}", flush=True)


if __name__ == "__main__":
    main()
