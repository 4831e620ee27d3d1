"""Many clients at once against `tanuki serve`: is any answer wrong, mixed or lost, and does memory grow?

python -m scripts.load_server [--clients 64] [--requests 1000] [--parallel N] [--model mame]

Clients ask greedy questions whose answers are known from asking alone, with random lengths, streamed or
not; one in four leaves in the middle, by a farewell or by a reset. Exit code 1 if an answer was wrong.
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
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
import psutil

from tanuki_cli.catalog.practice import suggestions

_CHAT: Final = "/v1/chat/completions"
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
    more = ["--parallel", str(chosen.parallel)] if chosen.parallel else []
    command = [sys.executable, "-m", "tanuki_cli", "serve", "-m", chosen.model, "--port", "0", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[0].removesuffix("/v1")
            return asyncio.run(_load(address, psutil.Process(process.pid), chosen))
        finally:
            process.terminate()


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

        await asyncio.gather(*map(work, range(chosen.clients)))
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
    kind = chance.choice(("whole", "stream", "stream", "leaving"))
    if kind == "leaving":
        tally.outcomes["left"] += 1
        await _leave(client, body, chance)
        return
    try:
        ids, reason = await (_whole if kind == "whole" else _stream)(client, body)
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
    ids: list[int] = []
    reason = "lost"
    async with client.stream("POST", _CHAT, json={**body, "stream": True}) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            [choice] = json.loads(line.removeprefix("data: "))["choices"]
            ids += choice.get("token_ids", [])
            reason = choice["finish_reason"] or reason
    return ids, reason


async def _leave(client: httpx2.AsyncClient, body: dict[str, Any], chance: random.Random) -> None:
    """Ask, and go away before, while or after the answer comes."""
    url = client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    content = json.dumps({**body, "stream": chance.random() < 0.7}).encode()
    head = f"POST {_CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    whole = head.encode() + content
    writer.write(whole[: chance.choice((len(whole), len(whole), chance.randint(1, len(whole))))])
    await writer.drain()
    if chance.random() < 0.5:
        await asyncio.wait((asyncio.ensure_future(reader.read(300)),), timeout=chance.random())
    if chance.random() < 0.5:
        opened: socket.socket = writer.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    writer.close()


async def _settled(client: httpx2.AsyncClient) -> str:
    """Wait until nothing runs; what the server counted."""
    while True:
        lines = (await client.get("/metrics")).text.splitlines()
        found = dict(line.split() for line in lines if not line.startswith("#"))
        if found["tanuki_requests_held"] == "0":
            names = ("answers_total", "dropped_total", "failed_total", "refused_total", "places")
            return ", ".join(f"{name} {found[f'tanuki_{name}']}" for name in names)
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
