"""Many warm `tanuki ask` on a loaded machine, some at once: is the model ever loaded anew?

python -m scripts.load_warm [--asks 200] [--at-once 4] [--load 4] [--kills 5] [--model mame]

Busy processes take the cores meanwhile. Then the process that has the model is killed outright, at rest and
in mid-answer: the next ask must answer as before, with one such process, and no file of an old one. Exit code
1 if not.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import psutil

_COMMAND: Final = (sys.executable, "-m", "tanuki_cli")
_QUESTION: Final = "あなたは誰?"


def main(arguments: list[str]) -> int:
    """Ask, kill, ask again; say what was seen."""
    parser = argparse.ArgumentParser(description="Load the model that stays loaded.")
    parser.add_argument("--asks", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--load", type=int, default=4)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--model", default="mame")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home:
        own = {"TANUKI_HOME": home, "TANUKI_KEEP_ALIVE": "30m", "TANUKI_LANG": "en", "XDG_RUNTIME_DIR": home}
        env = {**os.environ, **own}
        try:
            with _busy(chosen.load):
                anew = _ask_often(chosen, env)
            left = [_after_kill(chosen, env, Path(home), in_answer=bool(n % 2)) for n in range(chosen.kills)]
        finally:
            subprocess.run([*_COMMAND, "stop"], env=env, capture_output=True, check=False)
    print(f"killed {chosen.kills} times; wrong afterwards: {sum(map(bool, left))} {list(filter(None, left))}")
    return 1 if anew or any(left) else 0


def _ask_often(chosen: argparse.Namespace, env: Mapping[str, str]) -> int:
    """How often the model was not the one of the first ask, or the answer not its answer."""
    expected = _ask(chosen, env)["answer"]
    first = _kept(env)

    def ask(_number: int) -> tuple[float, dict[str, Any]]:
        started = time.monotonic()
        answer = _ask(chosen, env)
        return time.monotonic() - started, answer

    with ThreadPoolExecutor(chosen.at_once) as pool:
        asked = list(pool.map(ask, range(chosen.asks)))
    last = _kept(env)
    # One that was loaded anew has another process, and counts its requests from the first.
    anew = int(last["pid"] != first["pid"] or last["requests"] != first["requests"] + chosen.asks)
    anew += sum(answer["answer"] != expected or not answer["usage"]["cached_tokens"] for _, answer in asked)
    seconds = [took for took, _ in asked]
    loading = [answer["timings"]["load_s"] for _, answer in asked]
    print(
        f"{chosen.asks} asks, {chosen.at_once} at once, beside {chosen.load} busy processes: the whole "
        f"command {statistics.median(seconds):.2f} s in the middle, {max(seconds):.2f} s at most; until the "
        f"model is there {statistics.median(loading):.3f} and {max(loading):.3f} s; "
        f"loaded anew or another answer: {anew}",
        flush=True,
    )
    return anew


def _after_kill(chosen: argparse.Namespace, env: Mapping[str, str], home: Path, *, in_answer: bool) -> str:
    """What is wrong with the ask after the process was killed; empty where nothing is."""
    expected = _ask(chosen, env)["answer"]
    process = psutil.Process(_kept(env)["pid"])
    if in_answer:
        endless = ("--regex", "[あ-ん]{3000}", "--max-new-tokens", "3000", "-m", chosen.model, "なにか")
        with subprocess.Popen([*_COMMAND, "ask", *endless], env=env, stdout=-1, stderr=-1) as client:
            assert client.stdout is not None
            client.stdout.read(100)
            process.kill()
            _rest, said = client.communicate()
            if client.returncode != 6 or b"ended before its answer" not in b" ".join(said.split()):
                return f"exit code {client.returncode}: {said!r}"
    else:
        process.kill()
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(10)
    again = _ask(chosen, env)
    sockets = list(home.glob("tanuki-*/*.sock"))
    if again["answer"] != expected or len(sockets) != 1 or _kept(env)["pid"] == process.pid:
        return f"{again['answer']!r}, {len(sockets)} sockets"
    return ""


def _ask(chosen: argparse.Namespace, env: Mapping[str, str]) -> dict[str, Any]:
    command = [*_COMMAND, "ask", "-m", chosen.model, "--json", "--temperature", "0", _QUESTION]
    done = subprocess.run(command, env=env, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _kept(env: Mapping[str, str]) -> dict[str, Any]:
    done = subprocess.run([*_COMMAND, "ps", "--json"], env=env, capture_output=True, check=True)
    [found] = json.loads(done.stdout)["models"]
    return dict(found)


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    """``count`` processes that do nothing but take time."""
    processes = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
