"""A process of its own for the tests of the KV folder: holds conversations, opening the model for each.

python -m tests.support.llama_store_user MODEL FOLDER MAX_BYTES SEED COUNT [LARGEST_FILE]
Prints one JSON line per turn: the conversation, the ids of the answer, and how many ids were cached.
LARGEST_FILE, in bytes, is a limit of the operating system: writing more than that fails, as on a full disk.
"""

import json
import random
import resource
import sys
from itertools import islice
from pathlib import Path

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.llama_cpp.kv_store import KvStore
from tanuki_cli.engines.llama_cpp.loader import load_llama_cpp
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.settings.values import Settings
from tests.support.llama_models import GREEDY, PROMPT

HEAD = PROMPT[:20]


def main() -> None:
    path, folder, max_bytes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    draw, count = random.Random(int(sys.argv[4])), int(sys.argv[5])
    if len(sys.argv) > 6:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[6]), resource.RLIM_INFINITY))
    prompts = {name: [*HEAD, *range(300 + 20 * name, 340 + 20 * name)] for name in range(4)}
    for _turn in range(count):
        name = draw.randrange(len(prompts))
        model = load_llama_cpp(
            LocalModel(name="tiny", format="gguf", path=path),
            Settings(context_length=512, threads=1),
            debug=False,
            kv_store=KvStore(folder, max_bytes=max_bytes),
            head_ids=HEAD,
        )
        ids = list(islice(token_ids(model.generate(prompts[name], GREEDY)), 12))
        sys.stdout.write(json.dumps({"prompt": prompts[name], "ids": ids, "cached": model.cached_tokens}))
        sys.stdout.write("\n")
        sys.stdout.flush()
        model.close()
        prompts[name] = [*prompts[name], *ids, 2, 8, 8, 400 + name]


if __name__ == "__main__":
    main()
