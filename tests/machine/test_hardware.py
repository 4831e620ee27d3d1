"""What the machine has, as a process in a container sees it."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pynvml
import pytest

from tanuki_cli.engines.installed import installed_engines
from tanuki_cli.machine import gpus, hardware
from tanuki_cli.machine.gpus import Gpu, visible_devices
from tanuki_cli.machine.hardware import (
    format_bytes,
    free_disk_bytes,
    inspect_machine,
    usable_cpus,
    usable_physical_cores,
)
from tanuki_cli.machine.limits import CGROUP_ROOT, cgroup_cpus, cgroup_memory, own_cgroups
from tanuki_cli.machine.memory import KvType, MemoryEstimate, estimate_memory


def estimate_8b(
    *,
    weights_bytes: int = 0,
    context_length: int = 4096,
    kv_type: KvType = "f16",
    flash_attention: bool = True,
) -> MemoryEstimate:
    return estimate_memory(
        weights_bytes=weights_bytes,
        n_layers=32,
        n_heads=32,
        n_kv_heads=8,
        head_dim=128,
        hidden_size=4096,
        vocab_size=65024,
        context_length=context_length,
        kv_type=kv_type,
        flash_attention=flash_attention,
    )


def test_this_machine() -> None:
    machine = inspect_machine(os.environ)
    limit, _used = cgroup_memory(CGROUP_ROOT, own_cgroups())
    assert 0 < machine.available_ram_bytes <= machine.ram_bytes
    assert machine.ram_bytes == min(psutil.virtual_memory().total, limit)
    assert 1 <= machine.physical_cores <= (os.cpu_count() or 1)
    assert machine.free_vram_bytes <= sum(gpu.total_bytes for gpu in machine.gpus)


def test_cores_follow_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    first = min(hardware._allowed_cpus())
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {first}, raising=False)
    assert usable_physical_cores() == usable_cpus() == 1


@pytest.mark.parametrize(
    ("topology", "cores"),
    [
        ([{"core_cpus_list": "0,2"}, {"core_cpus_list": "1,3"}] * 2, 2),
        ([{"thread_siblings_list": "0-1"}] * 2, 1),  # before Linux 5.3
        # Two clusters of ARM, with two cores each.
        ([{"core_id": str(cpu % 2), "core_cpus_list": str(cpu)} for cpu in range(4)], 4),
    ],
)
def test_a_core_is_known_by_its_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topology: list[dict[str, str]], cores: int
) -> None:
    for cpu, files in enumerate(topology):
        write(tmp_path / f"cpu{cpu}" / "topology", files)
    monkeypatch.setattr(hardware, "_CPU_ROOT", tmp_path)
    monkeypatch.setattr(hardware, "_allowed_cpus", lambda: set(range(len(topology))))
    monkeypatch.setattr(hardware, "cgroup_cpus", lambda _root, _groups: 1 << 16)
    assert usable_physical_cores() == cores


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")


def test_memory_limit_of_a_unified_cgroup(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "memory.max": "max\n",
            "app/memory.max": "4000000000\n",
            "app/memory.current": "3000000000\n",
            "app/memory.stat": "anon 5\ninactive_file 400000000\nactive_file 600000000\n",
            "app/job/memory.max": "max\n",
        },
    )
    assert cgroup_memory(tmp_path, {"": "/app/job"}) == (4_000_000_000, 2_000_000_000)
    assert cgroup_memory(tmp_path, {"": "/elsewhere"})[0] > 10**15


def test_memory_that_others_take_from_a_group_around(tmp_path: Path) -> None:
    """Of 7 GB, of which 1 GB is used here, only 2 GB are left where others use 5 of 8."""
    write(
        tmp_path,
        {
            "user/memory.max": "8000000000\n",
            "user/memory.current": "6000000000\n",
            "user/app/memory.max": "7000000000\n",
            "user/app/memory.current": "1000000000\n",
        },
    )
    assert cgroup_memory(tmp_path, {"": "/user/app"}) == (7_000_000_000, 5_000_000_000)


def test_memory_limit_of_an_old_cgroup(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/box/memory.limit_in_bytes": "2000\n",
            "memory/box/memory.usage_in_bytes": "1500\n",
            "memory/box/memory.stat": "total_inactive_file 100\ntotal_active_file 400\n",
        },
    )
    assert cgroup_memory(tmp_path, {"memory": "/box", "": "/"}) == (2000, 1000)


@pytest.mark.parametrize(
    ("files", "groups", "cpus"),
    [
        ({"cpu.max": "150000 100000"}, {"": "/"}, 2),
        ({"cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, {"": "/a"}, 1),
        ({"cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"}, {"cpu": "/a"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, {"cpu": "/"}, 1 << 16),
        ({}, {"": "/"}, 1 << 16),
    ],
)
def test_cpu_quota(tmp_path: Path, files: dict[str, str], groups: dict[str, str], cpus: int) -> None:
    write(tmp_path, files)
    assert cgroup_cpus(tmp_path, groups) == cpus


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        ("1,7,0", [1]),
        ("GPU-bb", [1]),
        ("GPU-", []),
        ("NoDevFiles", []),
    ],
)
def test_visible_devices_as_in_cuda(setting: str | None, expected: list[int]) -> None:
    assert visible_devices(["GPU-aa", "GPU-bb", "GPU-cc"], setting) == expected


def test_gpus_as_their_driver_reports_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # The driver is the one thing that tests cannot bring along, so its answers are scripted.
    memory = [SimpleNamespace(total=24 << 30, free=20 << 30), SimpleNamespace(total=8 << 30, free=7 << 30)]
    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda index: ("GPU-aa", b"GPU-bb")[index],
        "nvmlDeviceGetName": lambda index: ("NVIDIA A", b"NVIDIA B")[index],
        "nvmlDeviceGetMemoryInfo": lambda index: memory[index],
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    monkeypatch.setattr(gpus, "_has_nvidia_driver", lambda: True)
    both = inspect_machine({})
    assert [gpu.name for gpu in both.gpus] == ["NVIDIA A", "NVIDIA B"]
    assert both.free_vram_bytes == 27 << 30
    second = inspect_machine({"CUDA_VISIBLE_DEVICES": "GPU-bb"})
    assert second.gpus == (Gpu(name="NVIDIA B", total_bytes=8 << 30, free_bytes=7 << 30),)

    def lost(_index: int) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lost)
    assert inspect_machine({}).gpus == ()


def test_disk_of_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert free_disk_bytes(tmp_path / "not" / "yet") > 0


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (123_456, "123 kB"),
        (4_510_000_000, "4.5 GB"),
        (999_600_000, "1.0 GB"),
        (15_020_000_000, "15.0 GB"),
        (2 * 10**12, "2.0 TB"),
    ],
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_engines_are_found_without_being_imported() -> None:
    code = (
        "import sys\nfrom tanuki_cli.engines.installed import installed_engines as find\n"
        "print(find()[0].installed)\n"
        "print([name for name in ('llama_cpp', 'torch', 'transformers') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["True", "[]"]
    assert installed_engines()[0].installed


def test_estimate_of_the_synthetic_8b() -> None:
    estimate = estimate_8b(weights_bytes=4_510_000_000)
    assert estimate.kv_cache == 512 * 1024 * 1024
    assert estimate.compute == 4 * 512 * (65024 + 4096)
    assert estimate.total == sum((estimate.weights, estimate.kv_cache, estimate.compute, estimate.overhead))


def test_q8_cache_takes_17_of_32_of_f16() -> None:
    f16 = estimate_8b()
    q8 = estimate_8b(kv_type="q8_0")
    assert q8.kv_cache * 32 == f16.kv_cache * 17


def test_attention_scores_count_without_flash_attention() -> None:
    flash = estimate_8b(context_length=8192)
    plain = estimate_8b(context_length=8192, flash_attention=False)
    assert plain.compute - flash.compute == 4 * 512 * (32 * 8192 - 65024)
