"""Trains the practice model on a CPU; stops and goes on without losing more than minutes."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from .dialogues import DialogueMaker
from .lessons import read_lessons
from .model import Llama, Shape
from .prompt import PAD, encode_dialogue

MAX_LENGTH = 1024  # ids of the longest dialogue; what is longer is cut
GROUP = 2200  # dialogues that are sorted by length together


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how fast to learn."""

    steps: int = 2000
    batch_ids: int = 6144  # ids in a batch, padding included
    rate: float = 4e-3
    muon_rate: float = 0.02  # for the matrices of the layers; 0: AdamW for everything
    warmup: int = 150
    seed: int = 20240902
    save_every_s: float = 180.0


Batch = tuple[Tensor, Tensor]  # ids and the mask of learned ids, both (rows, length)


def batches(tokenizer: Tokenizer, plan: Plan, first: int) -> Iterator[Batch]:
    """Endless batches, rows of like length together. A group of batches is drawn from its own
    seed, so that a resumed run goes on with new dialogues and not with the first ones again."""
    lessons = read_lessons()
    group = first // 32
    while True:
        maker = DialogueMaker(lessons, plan.seed + group)
        group += 1
        rows: list[tuple[list[int], list[bool]]] = []
        while len(rows) < GROUP:
            system, turns = maker.draw()
            ids, learned = encode_dialogue(tokenizer, turns, system)
            rows.append((ids[:MAX_LENGTH], learned[:MAX_LENGTH]))
        yield from _grouped(rows, plan)


def _grouped(rows: list[tuple[list[int], list[bool]]], plan: Plan) -> list[Batch]:
    rows.sort(key=lambda row: len(row[0]))
    made: list[Batch] = []
    while rows:
        length = -(-len(rows[-1][0]) // 8) * 8
        count = max(1, plan.batch_ids // length)
        made.append(_padded(rows[-count:], length))
        del rows[-count:]
    order = torch.randperm(len(made), generator=torch.Generator().manual_seed(plan.seed))
    return [made[i] for i in order.tolist()]


def _padded(rows: list[tuple[list[int], list[bool]]], length: int) -> Batch:
    ids = torch.full((len(rows), length), PAD)
    learned = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, (row, mask) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        learned[i, : len(row)] = torch.tensor(mask)
    return ids, learned


def rate_at(step: int, plan: Plan) -> float:
    """Share of the full rate: linear warm-up, then linear to zero."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    return max(0.0, (plan.steps - step) / (plan.steps - plan.warmup))


def optimizers(model: Llama, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices (it needs half as many steps), AdamW for everything else."""
    inner = [p for n, p in model.named_parameters() if p.dim() == 2 and "layers" in n]
    outer = [p for n, p in model.named_parameters() if p.dim() == 2 and "layers" not in n]
    norms = [p for p in model.parameters() if p.dim() == 1]
    made: list[torch.optim.Optimizer] = []
    adam = [{"params": outer, "weight_decay": 0.01}, {"params": norms, "weight_decay": 0.0}]
    if plan.muon_rate:
        made.append(torch.optim.Muon(inner, lr=plan.muon_rate, weight_decay=0.02, momentum=0.95))
    else:
        adam.append({"params": inner, "weight_decay": 0.05})
    made.append(torch.optim.AdamW(adam, lr=plan.rate, betas=(0.9, 0.95), eps=1e-8, fused=True))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["full_lr"] = group["lr"]
    return made


def learn_batch(
    model: Llama, batch: Batch, made: list[torch.optim.Optimizer], share: float
) -> tuple[float, float]:
    """One step; returns the loss and the share of learned ids that were predicted right."""
    ids, learned = batch
    for optimizer in made:
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * share
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids[:, :-1], learned[:, 1:])
    wanted = ids[:, 1:][learned[:, 1:]]
    loss = F.cross_entropy(logits.float(), wanted)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in made:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item(), (logits.argmax(-1) == wanted).float().mean().item()


def train(tokenizer_file: Path, folder: Path, plan: Plan, *, resume: bool) -> Path:
    """Trains into folder/checkpoint.pt and returns its path; resume goes on from it."""
    torch.manual_seed(plan.seed)
    model = Llama(Shape())
    made = optimizers(model, plan)
    path = folder / "checkpoint.pt"
    first, spent, ids = 0, 0.0, 0
    if resume and path.exists():
        first, spent, ids = _load(path, model, made)
    source = batches(Tokenizer.from_file(str(tokenizer_file)), plan, first)
    log = _Log(spent)
    saved = time.monotonic()
    for step in range(first, plan.steps):
        batch = next(source)
        log.add(step, batch, *learn_batch(model, batch, made, rate_at(step, plan)))
        ids += batch[0].numel()
        if time.monotonic() - saved > plan.save_every_s or step + 1 == plan.steps:
            _save(path, model, made, {"steps": step + 1, "seconds": log.seconds(), "ids": ids})
            saved = time.monotonic()
    return path


class _Log:
    """A line of JSON for every 50 steps."""

    def __init__(self, spent: float) -> None:
        self._started = self._reported = time.monotonic()
        self._spent = spent
        self._rows: list[tuple[int, float, float]] = []

    def seconds(self) -> float:
        """All training time, earlier runs included."""
        return self._spent + time.monotonic() - self._started

    def add(self, step: int, batch: Batch, loss: float, hit: float) -> None:
        self._rows.append((batch[0].numel(), loss, hit))
        if step % 50 != 49:
            return
        now = time.monotonic()
        ids, losses, hits = (sum(column) for column in zip(*self._rows, strict=True))
        line = {
            "step": step + 1,
            "loss": round(losses / len(self._rows), 4),
            "hit": round(hits / len(self._rows), 4),
            "ids_per_s": round(ids / (now - self._reported)),
            "minutes": round(self.seconds() / 60, 1),
        }
        print(json.dumps(line), flush=True)
        self._rows, self._reported = [], now


def _save(path: Path, model: Llama, made: list[torch.optim.Optimizer], trained: dict[str, float]) -> None:
    part = path.with_suffix(".part")
    torch.save(
        {"model": model.state_dict(), "optimizers": [o.state_dict() for o in made], "trained": trained}, part
    )
    part.replace(path)


def _load(path: Path, model: Llama, made: list[torch.optim.Optimizer]) -> tuple[int, float, int]:
    saved = torch.load(path, weights_only=True)
    model.load_state_dict(saved["model"])
    for optimizer, state in zip(made, saved["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    trained = saved["trained"]
    return int(trained["steps"]), trained["seconds"], int(trained["ids"])
