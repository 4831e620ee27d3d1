"""Many clients at once against `tanuki serve`: is any answer wrong, mixed or lost, and does memory grow?

python -m scripts.load_server [--clients 64] [--requests 1000] [--parallel N] [--model mame]

Clients ask greedy questions whose answers are known from asking alone, with random lengths: whole, streamed,
or read slowly; others leave in the middle, by a farewell or by a reset, or are processes that are killed. All
the while some connections say nothing, or a byte at a time. At the end the server is killed in mid-answer:
its clients must get an error, and the next one must take its port and answer. Exit code 1 if not, or if an
answer was wrong.
"""

import argparse
import asyncio
import json
import random
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
import psutil

from tanuki_cli.catalog.practice import suggestions
from tanuki_cli.server.sending import within

_CHAT: Final = "/v1/chat/completions"
_SILENT: Final = 8
"""Connections that keep the server waiting while the others ask."""
_AT_THE_END: Final = 16
_KILLED: Final = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
connection.sendall(sys.stdin.buffer.read())
while connection.recv(64):
    pass
"""
_TIE: Final = 0.1
"""Where the two likeliest tokens are closer than this, rounding may decide: that is no wrong answer."""


@dataclass
class Known:
    """The answer to a question asked alone: its ids, and how far ahead each was of the next likeliest."""

    question: str
    ids: list[int]
    leads: list[float]


@dataclass
class Tally:
    """What came of the requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    wrong: list[str] = field(default_factory=list)


def main(arguments: list[str]) -> int:
    """Serve, ask, count."""
    parser = argparse.ArgumentParser(description="Load `tanuki serve`.")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--parallel", type=int)
    parser.add_argument("--model", default="mame")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    with _served(chosen) as (process, address):
        wrong = asyncio.run(_load(address, psutil.Process(process.pid), chosen))
        unclear = asyncio.run(_killed_server(address, process))
    port = int(address.rsplit(":", 1)[1])
    with _served(chosen, port=port) as (_process, again):
        right = asyncio.run(_answers(again))
    print(f"killed in mid-answer: {unclear}; another server on the same port answers: {right}")
    return 1 if wrong or not right or "ended" in unclear else 0


@contextmanager
def _served(chosen: argparse.Namespace, port: int = 0) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    more = ["--parallel", str(chosen.parallel)] if chosen.parallel else []
    command = [sys.executable, "-m", "tanuki_cli", "serve", "-m", chosen.model, "--port", str(port), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().split()[0].removesuffix("/v1")
        finally:
            process.terminate()


async def _killed_server(address: str, process: "subprocess.Popen[str]") -> str:
    """What clients see whose server is killed in mid-answer."""
    seen: Counter[str] = Counter()
    async with httpx2.AsyncClient(base_url=address, timeout=60) as client:

        async def ask() -> None:
            try:
                await _stream(client, {**_body("長い話をして", 3000), "guided_regex": "[あ-ん]{3000}"})
                seen["ended"] += 1
            except httpx2.TransportError as exc:
                seen[type(exc).__name__] += 1

        asking = [asyncio.ensure_future(ask()) for _ in range(_AT_THE_END)]
        while not await _counts(client, "tanuki_requests_running"):
            await asyncio.sleep(0.05)
        process.kill()
        await asyncio.gather(*asking)
    return ", ".join(f"{name}: {count}" for name, count in sorted(seen.items()))


async def _answers(address: str) -> bool:
    async with httpx2.AsyncClient(base_url=address, timeout=60) as client:
        return bool((await _alone(client, suggestions("ja")[0])).ids)


async def _load(address: str, process: psutil.Process, chosen: argparse.Namespace) -> int:
    limits = httpx2.Limits(max_connections=chosen.clients, max_keepalive_connections=chosen.clients)
    async with httpx2.AsyncClient(base_url=address, timeout=600, limits=limits) as client:
        known = [await _alone(client, question) for question in suggestions("ja")]
        tally = Tally()
        numbers = iter(range(chosen.requests))
        memory = [process.memory_info().rss]
        started = time.monotonic()

        async def work(number: int) -> None:
            chance = random.Random(chosen.seed * 1000 + number)
            for count in numbers:
                await _ask(client, chance, chance.choice(known), tally)
                if count % (chosen.requests // 5) == 0:
                    memory.append(process.memory_info().rss)

        silent = [asyncio.ensure_future(_say_nothing(client, tally)) for _ in range(_SILENT)]
        await asyncio.gather(*map(work, range(chosen.clients)))
        for one in silent:
            one.cancel()
        await asyncio.gather(*silent, return_exceptions=True)
        seconds = time.monotonic() - started
        left = await _settled(client)
        again = [await _alone(client, one.question) for one in known]
        memory.append(process.memory_info().rss)
    changed = sum(one.ids != other.ids for one, other in zip(known, again, strict=True))
    print(f"{chosen.requests} requests of {chosen.clients} clients in {seconds:.1f} s; {left}")
    print(", ".join(f"{name}: {count}" for name, count in sorted(tally.outcomes.items())))
    print(f"answers: {tally.tokens / seconds:.0f} tokens/s")
    print("memory in MiB: " + " ".join(f"{size / 2**20:.0f}" for size in memory))
    print(f"open files: {process.num_fds()}; answers alone that differ afterwards: {changed}")
    print("\n".join(tally.wrong[:20]))
    return 1 if tally.wrong or changed else 0


async def _alone(client: httpx2.AsyncClient, question: str) -> Known:
    answer = (await client.post(_CHAT, json={**_body(question), "logprobs": True, "top_logprobs": 2})).json()
    [choice] = answer["choices"]
    leads = []
    for token in choice["logprobs"]["content"]:
        first, second = token["top_logprobs"]
        leads.append(first["logprob"] - second["logprob"])
    return Known(question, choice["token_ids"], leads)


def _body(question: str, limit: int = 64) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"messages": messages, "temperature": 0, "max_tokens": limit, "return_token_ids": True}


async def _ask(client: httpx2.AsyncClient, chance: random.Random, known: Known, tally: Tally) -> None:
    limit = chance.randint(1, 64)
    body = _body(known.question, limit)
    kind = chance.choice(("whole", "whole", "stream", "stream", "slow", "left", "left", "killed"))
    if kind in ("left", "killed"):
        tally.outcomes[kind] += 1
        await (_leave if kind == "left" else _be_killed)(client, body, chance)
        return
    ask = {"whole": _whole, "stream": _stream, "slow": _slowly}[kind]
    try:
        ids, reason = await ask(client, body)
    except httpx2.HTTPStatusError as exc:
        tally.outcomes[f"status {exc.response.status_code}"] += 1
        return
    tally.tokens += len(ids)
    expected = known.ids[:limit]
    place = next((place for place, pair in enumerate(zip(ids, expected)) if pair[0] != pair[1]), None)  # noqa: B905
    if ids == expected and reason == ("stop" if len(known.ids) <= limit and ids[-1] == 2 else "length"):
        tally.outcomes["right"] += 1
    elif place is not None and place < len(known.leads) and known.leads[place] < _TIE:
        tally.outcomes["right but for a near tie"] += 1
    else:
        tally.outcomes["WRONG"] += 1
        tally.wrong.append(f"{known.question} {limit} {reason}: {ids} instead of {expected}")


async def _whole(client: httpx2.AsyncClient, body: dict[str, Any]) -> tuple[list[int], str]:
    response = await client.post(_CHAT, json=body)
    response.raise_for_status()
    [choice] = response.json()["choices"]
    return choice["token_ids"], choice["finish_reason"]


async def _stream(client: httpx2.AsyncClient, body: dict[str, Any]) -> tuple[list[int], str]:
    async with client.stream("POST", _CHAT, json={**body, "stream": True}) as response:
        response.raise_for_status()
        return await _joined(response.aiter_lines())


async def _slowly(client: httpx2.AsyncClient, body: dict[str, Any]) -> tuple[list[int], str]:
    """The same by a reader that takes a little at a time, into a small buffer."""
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    opened.setblocking(False)
    await asyncio.get_running_loop().sock_connect(opened, (client.base_url.host, client.base_url.port))
    reader, writer = await asyncio.open_connection(sock=opened, limit=2048)
    writer.write(_request({**body, "stream": True, "logprobs": True, "top_logprobs": 20}))
    received = bytearray()
    while part := await reader.read(512):
        received += part
        await asyncio.sleep(0.002)
    writer.close()
    lines = bytes(received).split(b"\n")

    async def texts() -> AsyncIterator[str]:
        for line in lines:
            yield line.decode("utf-8", "replace")

    return await _joined(texts())


async def _joined(lines: AsyncIterator[str]) -> tuple[list[int], str]:
    ids: list[int] = []
    reason = "lost"
    async for line in lines:
        if line.startswith("data: {"):
            [choice] = json.loads(line.removeprefix("data: "))["choices"]
            ids += choice.get("token_ids", [])
            reason = choice["finish_reason"] or reason
    return ids, reason


def _request(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {_CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def _be_killed(client: httpx2.AsyncClient, body: dict[str, Any], chance: random.Random) -> None:
    """Ask from a process of its own, which is killed while it reads, or before."""
    where = (client.base_url.host, str(client.base_url.port))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", _KILLED, *where, stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    with suppress(ConnectionError):
        process.stdin.write(_request({**body, "stream": chance.random() < 0.7}))
        process.stdin.close()
    with suppress(asyncio.TimeoutError):
        await within(chance.random(), process.wait())
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


async def _say_nothing(client: httpx2.AsyncClient, tally: Tally) -> None:
    """Ask a byte a second, again and again: the server closes such a connection before it is whole."""
    while True:
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        closed = asyncio.ensure_future(reader.read(1))
        try:
            for byte in _request(_body("x"))[:-1]:
                writer.write(bytes((byte,)))
                done, _ = await asyncio.wait((closed,), timeout=1.0)
                if done:
                    break
        finally:
            closed.cancel()
            await asyncio.gather(closed, return_exceptions=True)
            writer.transport.abort()
        tally.outcomes["a byte a second, and closed"] += 1


async def _leave(client: httpx2.AsyncClient, body: dict[str, Any], chance: random.Random) -> None:
    """Ask, and go away before, while or after the answer comes."""
    url = client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    whole = _request({**body, "stream": chance.random() < 0.7})
    writer.write(whole[: chance.choice((len(whole), len(whole), chance.randint(1, len(whole))))])
    await writer.drain()
    if chance.random() < 0.5:
        with suppress(asyncio.TimeoutError):
            await within(chance.random(), reader.read(300))
    if chance.random() < 0.5:
        opened: socket.socket = writer.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    writer.close()


async def _settled(client: httpx2.AsyncClient) -> str:
    """Wait until nothing runs; what the server counted."""
    while await _counts(client, "tanuki_requests_held"):
        await asyncio.sleep(0.2)
    names = ("answers_total", "dropped_total", "failed_total", "refused_total", "places")
    return ", ".join([f"{name} {await _counts(client, f'tanuki_{name}'):g}" for name in names])


async def _counts(client: httpx2.AsyncClient, name: str) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return float(dict(line.split() for line in lines if not line.startswith("#"))[name])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
