"""Pulling models with the real huggingface_hub client from a small hub on loopback."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tanuki_cli.catalog import VARIANT_BY_NAME, parse_reference
from tanuki_cli.catalog.types import HubReference
from tests.conftest import until
from tests.support.hub_driver import Puller, outcome
from tests.support.hub_server import COMMIT, Fault, Hub, digest_of, running_hub

GGUF = "tanuki-8b:q4_k_m"
FULL = "tanuki-8b:full"
GGUF_REPOSITORY = "team-hatakeyama-phase2/Tanuki-8B-dpo-v1.0-GGUF"
REFERENCE_REPOSITORY = "weblab-GENIAC/Tanuki-8B-dpo-v1.0"
WEIGHTS = random.Random(1).randbytes(3_000_000)
SHARDS = {f"model-0000{i}-of-00002.safetensors": random.Random(i).randbytes(50_000) for i in (1, 2)}
TOKENIZER = b'{"tokenizer": 1}' * 1000
OTHER_COMMIT = "2" * 40


def checkpoint() -> dict[str, bytes]:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    return {
        **SHARDS,
        "model.safetensors.index.json": json.dumps(index).encode(),
        "config.json": b'{"model_type": "llama"}',
        "generation_config.json": b"{}",
        "tokenizer.json": TOKENIZER,
        "pytorch_model.bin": b"pickle" * 2000,
        "modeling_tanuki.py": b"raise SystemExit",
        "README.md": b"# Tanuki",
    }


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        hub.add(
            GGUF_REPOSITORY,
            {"Tanuki-8B-dpo-v1.0-Q4_K_M.gguf": WEIGHTS, "Tanuki-8B-dpo-v1.0-Q8_0.gguf": WEIGHTS[::-1]},
        )
        hub.add(REFERENCE_REPOSITORY, checkpoint())
        yield hub


@pytest.fixture
def user(hub: Hub, tmp_path: Path) -> Puller:
    return Puller(tmp_path, hub.url)


def test_gguf_comes_with_the_reference_tokenizer(hub: Hub, user: Puller) -> None:
    result = user.pull(GGUF)
    assert (result.exit, result.commit) == (0, COMMIT), result.message
    model = user.hub.locate(VARIANT_BY_NAME[GGUF])
    assert model is not None
    assert model.tokenizer is not None
    assert model.path == result.path
    assert model.path.read_bytes() == WEIGHTS
    assert model.tokenizer.read_bytes() == TOKENIZER
    assert result.last == [2, 2, *[len(WEIGHTS) + len(TOKENIZER)] * 2]
    assert result.stderr == ""


def test_only_what_was_named_is_asked_for(hub: Hub, user: Puller) -> None:
    user.pull(GGUF, env={"AI_AGENT": "x", "CI": "1"})
    assert [line for line in hub.paths("") if "/content/" not in line] == [
        f"GET /api/models/{GGUF_REPOSITORY}/revision/main",
        f"GET /api/models/{REFERENCE_REPOSITORY}/revision/main",
        f"GET /{REFERENCE_REPOSITORY}/resolve/{COMMIT}/tokenizer.json",
        f"GET /{GGUF_REPOSITORY}/resolve/{COMMIT}/Tanuki-8B-dpo-v1.0-Q4_K_M.gguf",
    ]
    assert {request.headers["user-agent"] for request in hub.requests} == {"tanuki"}
    assert not any("x-hf-download-counter" in request.headers for request in hub.requests)


def test_checkpoint_is_whole_and_without_pickles_or_code(hub: Hub, user: Puller) -> None:
    result = user.pull(FULL)
    assert result.exit == 0, result.message
    assert result.path is not None
    names = {path.name for path in result.path.iterdir()}
    assert names == set(checkpoint()) - {"pytorch_model.bin", "modeling_tanuki.py", "README.md"}
    assert not hub.paths(r"\.(bin|py)$")
    model = user.hub.locate(VARIANT_BY_NAME[FULL])
    assert model is not None
    assert (model.format, model.tokenizer) == ("safetensors", result.path / "tokenizer.json")


def test_second_pull_asks_nothing(hub: Hub, user: Puller) -> None:
    user.pull(GGUF)
    hub.requests.clear()
    result = user.pull(GGUF)
    assert (result.exit, result.phases, hub.requests) == (0, [], [])
    assert not result.network


def test_other_programs_find_the_model_in_the_cache(hub: Hub, user: Puller) -> None:
    user.pull(FULL)
    code = (
        "from huggingface_hub import hf_hub_download, scan_cache_dir\n"
        f"print(hf_hub_download({REFERENCE_REPOSITORY!r}, 'config.json', local_files_only=True))\n"
        "assert not scan_cache_dir().warnings, scan_cache_dir().warnings"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=user.environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).read_bytes() == checkpoint()["config.json"]


def test_models_of_other_programs_are_found_and_verified(hub: Hub, user: Puller) -> None:
    code = f"from huggingface_hub import snapshot_download; snapshot_download({REFERENCE_REPOSITORY!r})"
    subprocess.run(
        [sys.executable, "-c", code],
        env=user.environment({"HF_HUB_DISABLE_PROGRESS_BARS": "1"}),
        check=True,
        capture_output=True,
    )
    assert user.hub.locate(VARIANT_BY_NAME[FULL]) is not None
    offline = user.pull(FULL, offline=True)
    assert (offline.exit, offline.phases) == (0, [])
    hub.requests.clear()
    result = user.pull(FULL)
    assert (result.exit, result.phases) == (0, ["checking"])
    assert hub.paths("") == [f"GET /api/models/{REFERENCE_REPOSITORY}/revision/{COMMIT}"]
    assert user.pull(FULL).phases == []


def test_killed_pull_resumes_where_it_ended(hub: Hub, user: Puller) -> None:
    digest = digest_of(WEIGHTS)
    hold = Fault(pattern=f"content/{digest}", times=1, hold_after=2_000_000)
    hub.faults.append(hold)
    process = user.start(GGUF)
    assert hold.holding.wait(60)
    partial = next_partial(user, digest, at_least=1_500_000)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    hold.release.set()
    assert user.hub.locate(VARIANT_BY_NAME[GGUF]) is None
    received = partial.stat().st_size
    result = user.pull(GGUF)
    assert result.exit == 0, result.message
    assert hub.ranges(digest) == [None, f"bytes={received}-"]
    assert result.path is not None
    assert result.path.read_bytes() == WEIGHTS
    assert result.received == len(WEIGHTS) - received
    assert not partial.exists()


def next_partial(user: Puller, digest: str, *, at_least: int) -> Path:
    partial = user.cache.repository(GGUF_REPOSITORY) / "blobs" / f"{digest}.incomplete"
    until(lambda: partial.exists() and partial.stat().st_size >= at_least)
    return partial


def test_ctrl_c_keeps_what_was_received(hub: Hub, user: Puller) -> None:
    digest = digest_of(WEIGHTS)
    hold = Fault(pattern=f"content/{digest}", times=1, hold_after=2_000_000)
    hub.faults.append(hold)
    process = user.start(GGUF)
    partial = next_partial(user, digest, at_least=1_500_000)
    process.send_signal(signal.SIGINT)
    result = outcome(process)
    hold.release.set()
    assert (result.exit, result.hint) == (130, f"tanuki pull {GGUF}")
    assert partial.stat().st_size >= 1_500_000


def test_connection_cut_in_mid_file_resumes_by_itself(hub: Hub, user: Puller) -> None:
    digest = digest_of(WEIGHTS)
    hub.faults.append(Fault(pattern=f"content/{digest}", times=2, cut_after=1_000_000))
    result = user.pull(GGUF)
    assert result.exit == 0, result.message
    first, second, third = hub.ranges(digest)
    assert (first, second, third) == (None, "bytes=1000000-", "bytes=2000000-")
    assert result.path is not None
    assert result.path.read_bytes() == WEIGHTS


def test_server_without_ranges_starts_over(hub: Hub, user: Puller) -> None:
    digest = digest_of(WEIGHTS)
    hub.faults += [
        Fault(pattern=f"content/{digest}", times=1, cut_after=1_000_000),
        Fault(pattern=f"content/{digest}", times=1, ignore_range=True),
    ]
    result = user.pull(GGUF)
    assert result.exit == 0, result.message
    assert result.path is not None
    assert result.path.read_bytes() == WEIGHTS
    assert result.last[2] == result.last[3]


def test_partial_with_wrong_content_is_fetched_anew(hub: Hub, user: Puller) -> None:
    digest = digest_of(WEIGHTS)
    partial = user.cache.repository(GGUF_REPOSITORY) / "blobs" / f"{digest}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x" * 10_000)
    result = user.pull(GGUF)
    assert result.exit == 0, result.message
    assert hub.ranges(digest) == ["bytes=10000-", None]
    assert result.path is not None
    assert result.path.read_bytes() == WEIGHTS


def test_verify_replaces_a_damaged_file(hub: Hub, user: Puller) -> None:
    path = user.pull(GGUF).path
    assert path is not None
    blob = path.resolve()
    blob.write_bytes(WEIGHTS[:-1] + b"x")
    assert user.pull(GGUF, verify=True, offline=True).exit == 5
    assert user.hub.locate(VARIANT_BY_NAME[GGUF]) is None
    assert user.pull(GGUF).exit == 0
    assert path.read_bytes() == WEIGHTS
    blob.write_bytes(WEIGHTS[:-1] + b"x")
    result = user.pull(GGUF, verify=True)
    assert (result.exit, result.phases) == (0, ["checking", "downloading"])
    assert path.read_bytes() == WEIGHTS


def test_changed_file_is_noticed_without_verify(hub: Hub, user: Puller) -> None:
    path = user.pull(GGUF).path
    assert path is not None
    path.resolve().write_bytes(b"y" * len(WEIGHTS))
    assert user.pull(GGUF).exit == 0
    assert path.read_bytes() == WEIGHTS


def test_pinned_revision_stays_until_another_is_named(hub: Hub, user: Puller) -> None:
    user.pull(GGUF)
    newer = WEIGHTS[100:] + WEIGHTS[:100]
    hub.add(GGUF_REPOSITORY, {"Tanuki-8B-dpo-v1.0-Q4_K_M.gguf": newer}, commit=OTHER_COMMIT)
    assert user.pull(GGUF).commit == COMMIT
    result = user.pull(GGUF, revision="main")
    assert result.commit == OTHER_COMMIT
    assert result.path is not None
    assert result.path.read_bytes() == newer
    assert user.pull(GGUF, revision=COMMIT).commit == COMMIT
    assert user.pull(GGUF).commit == COMMIT


def test_two_pulls_at_once_fetch_the_file_once(hub: Hub, user: Puller) -> None:
    digest = digest_of(WEIGHTS)
    hold = Fault(pattern=f"content/{digest}", times=1, hold_after=2_000_000)
    hub.faults.append(hold)
    first = user.start(GGUF)
    assert hold.holding.wait(60)
    second = user.start(GGUF)
    assert second.stdout is not None
    assert second.stdout.readline() == "Another process is downloading this file.\n"
    hold.release.set()
    results = [outcome(first), outcome(second)]
    assert [result.exit for result in results] == [0, 0], results
    assert hub.ranges(digest) == [None, "bytes=2000000-"]


def test_repository_outside_the_catalog(hub: Hub, user: Puller) -> None:
    hub.add("someone/tanuki-mix", {"mix.gguf": WEIGHTS, "tokenizer.json": b"{}"})
    result = user.pull("hf:someone/tanuki-mix")
    assert result.exit == 0, result.message
    entry = next(
        model for model in user.hub.installed() if model.reference == HubReference("someone/tanuki-mix")
    )
    assert entry.model.tokenizer == entry.model.path.with_name("tokenizer.json")


PARTS = {f"sub/mix-0000{part}-of-00003.gguf": random.Random(part).randbytes(9_000) for part in (1, 2, 3)}


@pytest.mark.parametrize("name", ["hf:someone/split", "hf:someone/split/sub/mix-00002-of-00003.gguf"])
def test_the_parts_of_a_split_gguf_are_one_model(hub: Hub, user: Puller, name: str) -> None:
    others = {} if name == "hf:someone/split" else {"other.gguf": WEIGHTS}
    hub.add("someone/split", {**PARTS, **others})
    assert user.pull(name).exit == 0
    [entry] = user.hub.installed()
    assert entry.size == sum(map(len, PARTS.values())) + len(TOKENIZER)
    assert entry.model.path.name == "mix-00001-of-00003.gguf"
    last = entry.model.path.with_name("mix-00003-of-00003.gguf")
    last.resolve().write_bytes(bytes(9_000))
    assert user.pull(name, verify=True).exit == 0
    assert last.read_bytes() == PARTS["sub/mix-00003-of-00003.gguf"]
    last.unlink()
    assert user.hub.locate(entry.reference) is None
    assert user.pull(name).exit == 0
    user.hub.remove(entry.reference)
    assert list(user.hub.cache.root.rglob("*.gguf")) == []


def test_a_split_gguf_without_one_of_its_parts_is_no_model(hub: Hub, user: Puller) -> None:
    hub.add("someone/split", dict(list(PARTS.items())[:2]))
    result = user.pull("hf:someone/split/sub/mix-00001-of-00003.gguf")
    assert (result.exit, "no file sub/mix-00003-of-00003.gguf" in result.message) == (4, True)


def test_gguf_without_a_tokenizer_of_its_own(hub: Hub, user: Puller) -> None:
    hub.add("someone/tanuki-mix", {"sub/mix.gguf": WEIGHTS, "sub/other.gguf": WEIGHTS})
    assert user.pull("hf:someone/tanuki-mix/sub/mix.gguf").exit == 0
    reference = parse_reference("hf:someone/tanuki-mix/sub/mix.gguf")
    assert isinstance(reference, HubReference)
    model = user.hub.locate(reference)
    assert model is not None
    assert model.tokenizer is None
    assert model.reference_tokenizer is not None
    assert model.reference_tokenizer.read_bytes() == TOKENIZER


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({"a.gguf": WEIGHTS, "b.gguf": WEIGHTS}, "2 GGUF files"),
        ({"pytorch_model.bin": WEIGHTS}, "neither safetensors nor a GGUF"),
        ({"model.safetensors": WEIGHTS, "config.json": b"{}"}, "no tokenizer.json"),
    ],
)
def test_repository_that_is_no_model(hub: Hub, user: Puller, files: dict[str, bytes], part: str) -> None:
    hub.add("someone/thing", files)
    result = user.pull("hf:someone/thing")
    assert result.exit == 4
    assert part in result.message


def test_refused_variant_is_not_downloaded(hub: Hub, user: Puller) -> None:
    result = user.pull("tanuki-8x8b:q4_k_m")
    assert result.exit == 4
    assert "router" in result.message
    assert hub.requests == []


def test_names_that_leave_the_folder_are_not_written(hub: Hub, user: Puller) -> None:
    hub.add(
        "someone/evil",
        {
            "model.safetensors": WEIGHTS,
            "config.json": b"{}",
            "tokenizer.json": b"{}",
            "../../evil.json": b"{}",
        },
    )
    assert user.pull("hf:someone/evil").exit == 0
    assert not list(user.home.rglob("evil.json"))
