"""``tanuki pull``, ``models`` and ``rm`` as their users run them, against a small hub on loopback."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tanuki_cli.catalog import VARIANTS
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.chat_server import ChatServer, chat_answer, vllm_answer
from tests.support.hub_server import Fault, Hub, running_hub
from tests.support.program import Terminal, run

WEIGHTS = bytes(range(256)) * 8000
MODEL = "tanuki-8b:q4_k_m"
GGUF_REPOSITORY = "team-hatakeyama-phase2/Tanuki-8B-dpo-v1.0-GGUF"
REFERENCE_REPOSITORY = "weblab-GENIAC/Tanuki-8B-dpo-v1.0"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        hub.add(GGUF_REPOSITORY, {"Tanuki-8B-dpo-v1.0-Q4_K_M.gguf": WEIGHTS})
        hub.add(REFERENCE_REPOSITORY, {"tokenizer.json": b"{}"})
        yield hub


@pytest.mark.fast
def test_pull_models_rm(hub: Hub, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": hub.url}
    pulled = run(tmp_path, "pull", MODEL, env=env)
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout == ""
    lines = pulled.stderr.splitlines()
    assert lines[0] == "Downloading 2.0 MB."
    assert lines[-1] == f"{MODEL} is ready: 2.0 MB, revision 1111111."
    assert "100%" in lines[-2]
    assert "2.0 MB/2.0 MB" in lines[-2]
    assert "\x1b" not in pulled.stderr

    hub.requests.clear()
    again = run(tmp_path, "pull", MODEL, env=env)
    assert again.stderr == f"{MODEL} is whole: 2.0 MB, revision 1111111.\n"
    assert hub.requests == []

    listing = json.loads(run(tmp_path, "models", "--json", env=env).stdout)
    rows = {row["name"]: row for row in listing["models"]}
    assert {frozenset(row) for row in rows.values()} == {frozenset(rows["mame"])}
    assert set(rows) == {"mame", *(variant.name for variant in VARIANTS)}
    assert [name for name, row in rows.items() if row["installed"]] == ["mame", MODEL]
    assert Path(rows[MODEL]["path"]).read_bytes() == WEIGHTS
    assert (rows[MODEL]["size_bytes"], rows[MODEL]["size_exact"]) == (len(WEIGHTS) + 2, True)
    assert hub.requests == []

    refused = run(tmp_path, "rm", MODEL, env=env)
    assert refused.returncode == 2
    assert f"tanuki rm --yes {MODEL}" in refused.stderr
    removed = run(tmp_path, "rm", "--yes", MODEL, env=env)
    assert removed.stderr.startswith(f"{MODEL} was removed; 2.0 MB are free again.")
    assert run(tmp_path, "rm", "--yes", MODEL, env=env).returncode == 4
    assert not list((tmp_path / "hf").rglob("*.gguf"))


def test_failed_pull_names_the_way_out_in_japanese(hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault(pattern="api/models", status=403, headers={"X-Error-Code": "GatedRepo"}))
    done = run(tmp_path, "pull", MODEL, env={"HF_ENDPOINT": hub.url, "TANUKI_LANG": "ja"})
    assert done.returncode == 5
    sentence, hint = done.stderr.splitlines()
    assert f"{GGUF_REPOSITORY} の利用には所有者の許可が必要です。" in sentence
    assert f"{hub.url}/{GGUF_REPOSITORY}" in hint


def test_quiet_pull_says_nothing(hub: Hub, tmp_path: Path) -> None:
    done = run(tmp_path, "pull", "-q", MODEL, env={"HF_ENDPOINT": hub.url})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("pull", "mame"), 0, "part of tanuki"),
        (("pull", "./x.gguf"), 2, "not something to download"),
        (("pull", "tanuki-8b:q4"), 4, "Did you mean tanuki-8b:"),
        (("pull", "tanuki-8x8b:q4_k_m"), 4, "router"),
        (("pull", MODEL, "--offline"), 5, "not installed"),
        (("rm", MODEL), 4, "not installed"),
        (("models", "--remote", "--offline"), 5, "Hint: tanuki models\n"),
        (("rm", "mame"), 4, "not a downloaded model"),
        (("models", "--remote", "--offline"), 5, "network is not to be used"),
    ],
)
def test_other_references(hub: Hub, tmp_path: Path, arguments: tuple[str, ...], code: int, part: str) -> None:
    done = run(tmp_path, *arguments, env={"HF_ENDPOINT": hub.url})
    assert done.returncode == code, done.stderr
    assert part in done.stderr
    assert hub.requests == []


def test_a_cache_that_is_no_folder_is_named(hub: Hub, tmp_path: Path) -> None:
    block = tmp_path / "block"
    block.touch()
    done = run(tmp_path, "pull", MODEL, env={"HF_ENDPOINT": hub.url, "HF_HOME": str(block)})
    assert done.returncode == 5, done.stderr
    assert str(block) in done.stderr
    assert "HF_HOME" in done.stderr.splitlines()[-1]


def test_remote_sizes(hub: Hub, tmp_path: Path) -> None:
    hub.sizes["Tanuki-8B-dpo-v1.0-Q4_K_M.gguf"] = 4_567_000_000
    done = run(tmp_path, "models", "--remote", "--json", env={"HF_ENDPOINT": hub.url})
    rows = {row["name"]: row for row in json.loads(done.stdout)["models"]}
    assert (rows[MODEL]["size_bytes"], rows[MODEL]["size_exact"]) == (4_567_000_000, True)
    assert rows["tanuki-8b:q8_0"]["size_exact"] is False


def test_japanese_list_wraps_on_a_terminal_only(tmp_path: Path) -> None:
    piped = run(tmp_path, "models", "--all", env={"TANUKI_LANG": "ja", "COLUMNS": "40"}).stdout.splitlines()
    assert [line for line in piped if line != line.rstrip()] == []
    notes = [line for line in piped if line.startswith(("1) ", "★ "))]
    assert len(notes) == 2
    with Terminal(tmp_path, ["models"], columns=40, env={"TANUKI_LANG": "ja"}) as terminal:
        assert terminal.wait_for_exit() == 0
        rows = [line.rstrip() for line in terminal.text.splitlines()]
    assert not any(row.startswith(("。", "、", "）")) for row in rows)
    joined = without_figures("".join(rows))
    for note in notes:
        assert without_figures(note) in joined
        assert note not in rows


def without_figures(text: str) -> str:
    """How much memory is free differs from one run to the next."""
    return re.sub(r"[\d. ]", "", text)


def test_table_fits_a_narrow_window(tmp_path: Path) -> None:
    for columns in (40, 80):
        done = run(tmp_path, "models", "--all", env={"COLUMNS": str(columns)})
        assert done.returncode == 0, done.stderr
        table, _notes = done.stdout.split("\n\n", 1)
        assert max(map(len, table.splitlines())) <= columns
        assert "tanuki-8x8b:gptq-4bit" in done.stdout
        assert "\x1b" not in done.stdout


def test_progress_on_a_terminal(hub: Hub, tmp_path: Path) -> None:
    hold = Fault(pattern="content", hold_after=len(WEIGHTS) // 2, times=1)
    hub.faults.append(hold)
    with Terminal(tmp_path, ["pull"], columns=60, env={"HF_ENDPOINT": hub.url}) as terminal:
        terminal.wait_for("Download it now? [Y/n]")
        terminal.type("\r")
        terminal.wait_for("1.0 MB/2.0 MB")
        hold.release.set()
        terminal.wait_for("is ready: 2.0 MB")
        assert terminal.wait_for_exit() == 0
        assert "━" not in terminal.text


def test_a_pull_that_is_interrupted_says_what_is_left_of_it(hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault(pattern="content", bytes_per_s=len(WEIGHTS) // 100))
    with Terminal(tmp_path, ["pull", MODEL], env={"HF_ENDPOINT": hub.url}) as terminal:
        terminal.wait_for(" left ")
        terminal.interrupt()
        assert terminal.wait_for_exit() == 130
    assert f"Interrupted; what was received is kept.\n  Hint: tanuki pull {MODEL}" in terminal.text


def test_a_download_that_nothing_here_could_run_is_said_before_it(hub: Hub, tmp_path: Path) -> None:
    """Told, not forbidden: the files may be for another machine."""
    hub.add(
        "weblab-GENIAC/Tanuki-8x8B-dpo-v1.0",
        {"config.json": b"{}", "model.safetensors": WEIGHTS, "tokenizer.json": b"{}"},
    )
    env = {"HF_ENDPOINT": hub.url, "CUDA_VISIBLE_DEVICES": ""}
    done = run(tmp_path, "pull", "tanuki-8x8b:full", env=env)
    first, second, *_rest = done.stderr.splitlines()
    assert first.startswith("It needs an NVIDIA GPU with about 9")
    assert second.startswith("Downloading ")


def test_the_tokenizer_alone_gives_a_server_exact_ids(
    hub: Hub, small_tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    """What the note of a server names does what it says: the next question is sent as ids."""
    path = tmp_path / "tokenizer.json"
    small_tokenizer.backend.save(str(path))
    hub.add(REFERENCE_REPOSITORY, {"tokenizer.json": path.read_bytes(), "model.safetensors": WEIGHTS})
    env = {"HF_ENDPOINT": hub.url}
    command = "tanuki pull tanuki-8b --tokenizer-only"
    offline = run(tmp_path, *command.split()[1:], "--offline", env=env)
    assert (offline.returncode, command in offline.stderr) == (5, True)
    answers = [vllm_answer(small_tokenizer.encode("です")) for _ in range(2)]
    with ChatServer(*answers, kind="vllm", tokenizer=small_tokenizer) as server:
        before = run(tmp_path, "ask", "-m", server.url, "何?", env=env)
        assert f"exact tokens: {command}" in before.stderr
        pulled = run(tmp_path, *command.split()[1:], env=env)
        assert pulled.returncode == 0, pulled.stderr
        assert pulled.stderr.splitlines()[-1].startswith("The tokenizer of tanuki-8b is ready: ")
        assert not hub.paths(r"\.(safetensors|gguf)$")
        after = run(tmp_path, "ask", "-m", server.url, "何?", env=env)
    assert (after.stdout.strip(), command in after.stderr) == ("です", False)
    assert [isinstance(request.body["prompt"], list) for request in server.requests] == [False, True]
    assert run(tmp_path, *command.split()[1:], "--offline", env=env).returncode == 0
    for wrong in (("mame",), ("hf:owner/repo",), ("tanuki-8b", "--json")):
        assert run(tmp_path, "pull", *wrong, "--tokenizer-only", env=env).returncode == 2


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 0)])
def test_a_person_is_asked_for_the_tokenizer_and_it_is_fetched_at_once(
    hub: Hub, small_tokenizer: ChatTokenizer, tmp_path: Path, answer: str, code: int
) -> None:
    path = tmp_path / "tokenizer.json"
    small_tokenizer.backend.save(str(path))
    hub.add(REFERENCE_REPOSITORY, {"tokenizer.json": path.read_bytes(), "model.safetensors": WEIGHTS})
    script = vllm_answer(small_tokenizer.encode("です"))
    with (
        ChatServer(script, kind="vllm", tokenizer=small_tokenizer) as server,
        Terminal(tmp_path, ["ask", "-m", server.url, "何?"], env={"HF_ENDPOINT": hub.url}) as terminal,
    ):
        terminal.wait_for("[Y/n]")
        assert "Fetch Tanuki's tokenizer (4 MB) for it now?" in " ".join(terminal.text.split())
        terminal.type(f"{answer}\r")
        assert terminal.wait_for_exit() == code
        assert isinstance(server.requests[0].body["prompt"], list) == (answer == "y")
        assert ("--tokenizer-only" in terminal.text) == (answer == "n")
    assert not hub.paths(r"\.(safetensors|gguf)$")


def test_a_server_is_used_where_its_tokenizer_cannot_be_fetched(
    hub: Hub, small_tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    """The hub has none; --yes answers for the person who is not there."""
    with ChatServer(chat_answer("はい"), kind="vllm", tokenizer=small_tokenizer) as server:
        done = run(tmp_path, "ask", "--yes", "-m", server.url, "何?", env={"HF_ENDPOINT": hub.url})
    assert (done.returncode, done.stdout) == (0, "はい\n")
    assert "tanuki pull tanuki-8b --tokenizer-only" in done.stderr


def test_the_list_is_what_is_recommended_or_here_and_all_where_asked_for(tmp_path: Path) -> None:
    short = run(tmp_path, "models").stdout
    whole = run(tmp_path, "models", "--all").stdout
    assert "mame" in short
    assert "★" in short
    more = re.search(r"(\d+) more models: tanuki models --all", short)
    assert more is not None
    rows = {name: text.split("\n\n")[0].splitlines()[1:] for name, text in (("short", short), ("all", whole))}
    listed = [row for row in rows["all"] if ":q…" not in row]  # the refused share a line
    assert int(more[1]) == len(listed) - len(rows["short"]) > 20
    assert "more models" not in whole
