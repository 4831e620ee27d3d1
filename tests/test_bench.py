"""``tanuki bench`` with the practice model: figures that can be true, and nothing kept."""

import json
from pathlib import Path

from tests.program import run


def test_figures(tmp_path: Path) -> None:
    done = run(tmp_path, "bench", "-m", "mame", "--json")
    assert done.returncode == 0, done.stderr
    speed = json.loads(done.stdout)
    assert speed["model"] == "mame"
    assert speed["engine"] == "llama.cpp"
    for key in ("load_s", "prompt_tokens_per_s", "answer_tokens_per_s", "next_turn_s", "memory_bytes"):
        assert speed[key] > 0
    # A second turn computes four tokens of about six hundred.
    assert speed["next_turn_s"] < speed["prompt_tokens"] / speed["prompt_tokens_per_s"]
    assert not list(tmp_path.rglob("history.sqlite3"))


def test_table_says_what_the_figures_mean(tmp_path: Path) -> None:
    done = run(tmp_path, "bench", "-m", "mame", env={"LANG": "ja_JP.UTF-8"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mame · llama.cpp")
    assert "トークン/秒" in done.stdout
    assert "質問やファイルを読み込む速さ" in done.stdout
