"""What several connections gain in a download, from a hub on this machine with a cap per connection.

    python -m scripts.bench_download [--size-mb 400] [--cap-mb 5] [--connections 0 1 2 4 8 16]

``--cap-mb 0`` lifts the cap, and the download of huggingface_hub is measured beside it. 0 connections
are as many as tanuki chooses. A line: seconds, of processor time, speed, times that of the first line.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from tests.support.hub_server import Fault, digest_of, running_hub

MEGABYTE: Final = 1_000_000
REPOSITORY: Final = "someone/large"


def ours(folder: Path, connections: int) -> None:
    """One download by tanuki; over as many connections as it chooses itself if 0."""
    from tanuki_cli.hub import ranges, transfer
    from tanuki_cli.hub.client import HubClient
    from tanuki_cli.hub.progress import Meter, ignore_progress

    chosen = (lambda speed: connections) if connections else ranges.worthwhile_connections
    transfer.worthwhile_connections = chosen  # type: ignore[attr-defined]
    client = HubClient(REPOSITORY)
    [file] = client.list_files(REPOSITORY, "main")
    patience = transfer.Patience(waits=(), notify=lambda _fault: None)
    meter = Meter(ignore_progress, "downloading", files_total=1, bytes_total=file.size)
    path = folder / f"ours-{connections}"
    transfer.receive(client, file, path, patience=patience, meter=meter)


def theirs(folder: Path) -> None:
    """One download by huggingface_hub."""
    from huggingface_hub import hf_hub_download

    hf_hub_download(REPOSITORY, "large.gguf", cache_dir=folder / "theirs", force_download=True)


def seconds(action: Callable[[], None]) -> tuple[float, float]:
    """How long ``action`` takes, by the clock and of processor time."""
    clock, processor = time.monotonic(), time.process_time()
    action()
    return time.monotonic() - clock, time.process_time() - processor


def serve(content: bytes, cap_mb: float, pipe: Connection) -> None:
    """Serve ``content`` until the other end of ``pipe`` closes."""
    with running_hub() as hub:
        hub.add(REPOSITORY, {"large.gguf": content})
        if cap_mb:
            hub.faults.append(Fault(pattern=digest_of(content), bytes_per_s=int(cap_mb * MEGABYTE)))
        pipe.send(hub.url)
        with suppress(EOFError):
            pipe.recv()


@contextmanager
def other_process(content: bytes, cap_mb: float) -> Iterator[str]:
    """A hub that shares no interpreter with who downloads; its address."""
    here, there = Pipe()
    process = get_context("fork").Process(target=serve, args=(content, cap_mb, there), daemon=True)
    process.start()
    yield here.recv()
    process.terminate()
    process.join()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=400)
    parser.add_argument("--cap-mb", type=float, default=5.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[0, 1, 2, 4, 8, 16])
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args(arguments)
    content = os.urandom(options.size_mb * MEGABYTE)
    with other_process(content, options.cap_mb) as url, tempfile.TemporaryDirectory() as temporary:
        # Read when huggingface_hub is imported, which nothing has done yet.
        os.environ |= {"HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        base = 0.0
        for _run in range(options.runs):
            for count in options.connections:
                took, processor = seconds(partial(ours, Path(temporary), count))
                Path(temporary, f"ours-{count}").unlink()
                base = base or took
                report(f"{count or 'chosen'} connections", content, took, processor, base)
            if not options.cap_mb:
                took, processor = seconds(partial(theirs, Path(temporary)))
                report("huggingface_hub", content, took, processor, base)


def report(name: str, content: bytes, took: float, processor: float, base: float) -> None:
    """One line: seconds, of processor time, speed, and how many times that of the first line."""
    speed = len(content) / MEGABYTE / took
    print(f"{name:18}{took:7.1f} s {processor:6.1f} s {speed:7.1f} MB/s {base / took:6.2f} times")


if __name__ == "__main__":
    main()
