"""Loads a GGUF where many layers take more memory than there is; prints what came of it as JSON.

    python -m tests.support.llama_fewer_layers MODEL.gguf WHAT ROOM

The GPU is made up, the failures are not: for more than four layers the system gives the process no more
than ROOM bytes, while WHAT ("weights" or "context") is allocated by the real llama.cpp; or the file is
"gone" when it is to be loaded.
"""

import json
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import psutil

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.llama_cpp import loader as llama_cpp
from tanuki_cli.engines.llama_cpp import native as llama_native
from tanuki_cli.engines.llama_cpp import plan as llama_plan
from tanuki_cli.engines.llama_cpp.builds import LLAMA_CPP, Build
from tanuki_cli.engines.llama_cpp.native import Context, ContextParams, Model
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.errors import EngineError
from tanuki_cli.machine.gpus import Gpu
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings

ENOUGH = 4
taken: list[int] = []
"""Address space at the beginning of each attempt."""


@contextmanager
def cramped(room: int | None) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if room is not None:
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def main(path: Path, what: str, room: int) -> None:
    tried: list[int] = []

    class CrampedModel(Model):
        def __init__(
            self,
            path: Path,
            *,
            gpu_layers: int,
            repack: bool,
            metadata: Mapping[str, int | str] | None = None,
            should_stop: Callable[[], bool] = lambda: False,
            build: Build = LLAMA_CPP,
        ) -> None:
            tried.append(gpu_layers)
            if what == "gone":
                path.unlink()
            taken.append(psutil.Process().memory_info().vms)
            with cramped(room if what == "weights" and gpu_layers > ENOUGH else None):
                super().__init__(
                    path,
                    gpu_layers=gpu_layers,
                    repack=repack,
                    metadata=metadata,
                    should_stop=should_stop,
                    build=build,
                )

    class CrampedContext(Context):
        def __init__(self, model: Model, params: ContextParams) -> None:
            with cramped(room if what == "context" and tried[-1] > ENOUGH else None):
                super().__init__(model, params)

    vars(llama_plan).update(Model=CrampedModel)
    vars(llama_cpp).update(Context=CrampedContext)
    llama_native.gpus = lambda: [Gpu(name="Card", free_bytes=10**11, total_bytes=10**11)]
    local = LocalModel(name="hollow", format="gguf", path=path)
    result: dict[str, object] = {"tried": tried, "taken": taken}
    try:
        with closing(llama_cpp.load_llama_cpp(local, Settings(threads=1), debug=False)) as model:
            ids = list(islice(token_ids(model.generate([1, 300], SamplingOptions(temperature=0, seed=0))), 3))
            result |= {"device": model.info.device, "notes": list(model.notes), "count": len(ids)}
    except EngineError as error:
        result |= {"error": error.message}
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
