"""GPTQ and AWQ checkpoints, laid out like the published ones, on the real gptqmodel."""

import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.errors import EngineError
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tests.support.lazy import lazy_imports

with lazy_imports():
    import torch
    import transformers

    from tanuki_cli.engines.transformers.loader import TransformersModel, load_transformers
    from tests.support.checkpoints import Layout, write_quantized

ON_CPU = Settings(gpu_layers=0, threads=1, context_length=256)
PROMPT = [1, *range(100, 180)]


def load(path: Path, layout: Layout) -> TransformersModel:
    local = LocalModel(name="random", format="safetensors", path=path, quantization=layout)
    return load_transformers(local, ON_CPU, debug=False)


@pytest.mark.parametrize(
    ("layout", "bits", "desc_act", "device"),
    [
        ("gptq", 4, False, "CPU GPTQ 4 bit"),
        ("gptq", 4, True, "CPU GPTQ 4 bit"),
        ("gptq", 8, False, "CPU GPTQ 8 bit"),
        ("awq", 4, False, "CPU AWQ 4 bit"),
    ],
)
def test_the_numbers_are_those_in_the_file(
    tmp_path: Path, layout: Layout, bits: int, desc_act: bool, device: str
) -> None:
    """Against the same numbers unpacked here, in float32; half precision is all that differs."""
    path = write_quantized(tmp_path, layout=layout, bits=bits, desc_act=desc_act)
    model = load(path, layout)
    assert model.info.device == device
    answer = list(islice(token_ids(model.generate(PROMPT, SamplingOptions(temperature=0.0, seed=0))), 20))
    ids = [*PROMPT, *answer]
    reference = transformers.LlamaForCausalLM.from_pretrained(path / "exact")
    with torch.no_grad():
        exact = reference(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    got = torch.from_numpy(np.concatenate(list(model.logits(ids)))).log_softmax(-1)
    divergence = (exact.exp() * (exact - got)).sum(-1)
    assert divergence.mean() < 0.05
    assert answer[:5] == got[len(PROMPT) - 1 :].argmax(-1)[:5].tolist()


def test_the_terminal_stays_clean(tmp_path: Path) -> None:
    """In a fresh process: the banner and the warnings come while modules are imported."""
    code = (
        "from pathlib import Path\n"
        "from tests.engines.transformers.test_quantized import PROMPT, load\n"
        "from tanuki_cli.sampling import SamplingOptions\n"
        f"model = load(Path({str(write_quantized(tmp_path, layout='gptq'))!r}), 'gptq')\n"
        "print(next(model.generate(PROMPT, SamplingOptions(seed=0))).id >= 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("True\n", "")


def test_what_no_kernel_takes_is_said(tmp_path: Path) -> None:
    """The layout is one that is supported, but the rows are no multiple of the group."""
    path = write_quantized(tmp_path, layout="awq", group_size=16)
    with pytest.raises(EngineError, match="cannot be run by transformers"):
        load(path, "awq")
