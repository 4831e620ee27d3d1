"""Model references, the catalog, and which variant is recommended where."""

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tanuki_cli.catalog import (
    TANUKI_8B,
    TANUKI_8X8B,
    VARIANT_BY_NAME,
    VARIANTS,
    AutoReference,
    FamilyReference,
    HubReference,
    PathReference,
    PracticeReference,
    Reference,
    RemoteModel,
    parse_reference,
    reference_names,
)
from tanuki_cli.catalog.engines import Engines, MemoryPlan, estimate_variant
from tanuki_cli.catalog.recommendation import best_installed, fit, recommend
from tanuki_cli.errors import InputError, ModelError
from tanuki_cli.machine.gpus import Gpu
from tanuki_cli.machine.hardware import Machine
from tests.support.engines import ALL, PLAIN, engines

GB = 10**9
PLAN = MemoryPlan(context_length=4096)


def machine(*, ram_gb: float, vram_gb: float = 0) -> Machine:
    """All of its memory is free; a GPU holds back the tenth that drivers and screens take."""
    free = round(vram_gb * GB * 0.98)
    gpus = (Gpu(name="GPU", total_bytes=round(vram_gb * GB), free_bytes=free),) if vram_gb else ()
    ram = round(ram_gb * GB)
    return Machine(ram_bytes=ram, available_ram_bytes=ram, physical_cores=4, gpus=gpus)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("auto", AutoReference()),
        ("", AutoReference()),
        ("MAME", PracticeReference()),
        ("tanuki-8b", FamilyReference(TANUKI_8B)),
        ("Tanuki-8x8B", FamilyReference(TANUKI_8X8B)),
        ("tanuki-8b:Q4_K_M", VARIANT_BY_NAME["tanuki-8b:q4_k_m"]),
        (" tanuki-8b:gptq-8bit ", VARIANT_BY_NAME["tanuki-8b:gptq-8bit"]),
        ("./モデル", PathReference(Path("./モデル"))),
        ("~/x", PathReference(Path("~/x"))),
        ("model.gguf", PathReference(Path("model.gguf"))),
        ("/abs/dir", PathReference(Path("/abs/dir"))),
        ("hf:Owner/Repo", HubReference("Owner/Repo")),
        ("hf:owner/repo/sub/File.gguf", HubReference("owner/repo", "sub/File.gguf")),
        ("http://h:8000/v1", RemoteModel(name="http://h:8000/v1", base_url="http://h:8000/v1")),
        (
            "https://h/v1/#served",
            RemoteModel(name="https://h/v1/#served", base_url="https://h/v1", served_name="served"),
        ),
        ("ｍａｍｅ", PracticeReference()),
        ("　ＴＡＮＵＫＩ－８ｂ：ｑ４＿ｋ＿ｍ　", VARIANT_BY_NAME["tanuki-8b:q4_k_m"]),
        (
            "ｈｔｔｐ：／／ｈ：８０００／ｖ１",
            RemoteModel(name="http://h:8000/v1", base_url="http://h:8000/v1"),
        ),
        ("ｈｆ：owner／repo", HubReference("owner/repo")),
        ("./全角（１）.gguf", PathReference(Path("./全角（１）.gguf"))),
        ("Lab", RemoteModel(name="Lab", base_url="http://lab:1/v1", served_name="big")),
    ],
)
def test_references(text: str, reference: Reference) -> None:
    assert parse_reference(text, [("lab", "http://lab:1/v1#big")]) == reference


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("tanuki-8b:q4_km", "tanuki-8b:q4_k_m"),
        ("tanuki8b", "tanuki-8b"),
        ("mamo", "mame"),
        ("labb", "lab"),
        ("tanuki-8b:gptq4bit", "tanuki-8b:gptq-4bit"),
    ],
)
def test_unknown_names_suggest_the_nearest(text: str, near: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_reference(text, [("lab", "http://lab:1/v1")])
    assert f"mean {near}?" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["tanuki-8b:12", "tanuki-8b:nanka", "tanuki-8b:xyz", "tanuki-8b:", "gpt-4"])
def test_unknown_names_far_from_all_suggest_none(text: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_reference(text)
    assert "mean" not in (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:owner",
        "hf:../etc",
        "hf:a/..",
        "hf:a/b/../c.gguf",
        "hf:a/b//c.gguf",
        "hf:a/b/c.txt",
        "hf:a/b\\c",
    ],
)
def test_hub_names_stay_inside_the_hub(text: str) -> None:
    with pytest.raises(ModelError):
        parse_reference(text)


@pytest.mark.parametrize(
    "text", ["http://", "https:///v1", "http://#name", "http://[x/v1", "http://h:99999/v1", "http://h:x/v1"]
)
def test_addresses_without_a_host(text: str) -> None:
    with pytest.raises(InputError):
        parse_reference(text)


@pytest.mark.parametrize("text", ["htp://localhost:8000/v1", "ftp://host/v1", "file:///model"])
def test_addresses_of_another_kind_are_no_files(text: str) -> None:
    with pytest.raises(InputError, match="not the address of a server"):
        parse_reference(text)


@pytest.mark.parametrize(
    "text", ["localhost:8000", "gpu-1.lab:8000/v1", "10.0.0.5:80/v1#tanuki", "[::1]:8080"]
)
def test_an_address_without_http_gets_it_in_the_hint(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_reference(text)
    assert caught.value.hint == f"-m http://{text}"
    assert isinstance(parse_reference(f"http://{text}"), RemoteModel)


@given(st.text())
def test_any_text_is_a_reference_or_a_told_error(text: str) -> None:
    with suppress(ModelError, InputError):
        parse_reference(text)


def test_names_are_references() -> None:
    remotes = [("lab", "http://lab:1/v1")]
    names = reference_names(remotes)
    assert len(set(names)) == len(names)
    for name in names:
        parse_reference(name, remotes)


def test_catalog_has_every_published_row() -> None:
    assert len(VARIANTS) == len(VARIANT_BY_NAME) == 2 * (4 + 24)
    for variant in VARIANTS:
        title = variant.family.title
        if variant.format == "gguf":
            assert variant.repository == f"team-hatakeyama-phase2/{title}-GGUF"
            assert variant.filename == f"{title}-{variant.tag.upper()}.gguf"
        else:
            assert re.search("full|awq|gptq", variant.tag)
        assert variant.refused == (variant.family is TANUKI_8X8B and variant.format == "gguf")


@pytest.mark.parametrize(
    ("name", "gigabytes"), [("q4_k_s", 4.3), ("q6_k", 6.2), ("gptq-8bit", 8.22), ("q4_k_m", 4.51)]
)
def test_sizes_are_near_the_known_ones(name: str, gigabytes: float) -> None:
    size = VARIANT_BY_NAME[f"tanuki-8b:{name}"].approximate_bytes
    assert size == pytest.approx(gigabytes * GB, rel=0.02)


@pytest.mark.parametrize(
    ("ram_gb", "vram_gb", "installed", "name"),
    [
        (64, 48, ALL, "full"),
        (64, 24, ALL, "full"),
        (64, 24, engines(llama_cpp_gpu=True), "q8_0"),
        (32, 16, ALL, "q8_0"),
        (32, 8, ALL, "q6_k"),
        (32, 8, engines(transformers=True, quantized=True), "awq"),
        (32, 12, engines(transformers=True, quantized=True), "gptq-8bit"),
        (32, 24, PLAIN, "q4_k_m"),
        (16, 4, ALL, "q4_k_m"),
        (8, 0, PLAIN, "q4_k_m"),
        (5, 0, PLAIN, "q3_k_m"),
        (4, 0, PLAIN, "q2_k"),
        (2, 0, PLAIN, None),
    ],
)
def test_recommendation(ram_gb: float, vram_gb: float, installed: Engines, name: str | None) -> None:
    choice = recommend(machine(ram_gb=ram_gb, vram_gb=vram_gb), installed, PLAN)
    assert (choice.variant.tag if choice.variant else None) == name
    assert "GB" in choice.reason
    if choice.fit is not None:
        assert choice.fit.runs
        assert choice.fit.need_bytes <= choice.fit.free_bytes


def test_a_longer_context_can_change_the_choice() -> None:
    small = machine(ram_gb=5.5)
    short = recommend(small, PLAIN, PLAN).variant
    long = recommend(small, PLAIN, MemoryPlan(context_length=8192)).variant
    assert short is not None
    assert long is not None
    assert (short.tag, long.tag) == ("q4_k_m", "q4_k_s") or long.approximate_bytes < short.approximate_bytes


@pytest.mark.parametrize(
    ("vram_gb", "ram_gb", "name"),
    [(0, 512, None), (24, 512, None), (48, 16, "awq"), (80, 64, "gptq-8bit"), (140, 64, "full")],
)
def test_8x8b_needs_nvidia_gpus(vram_gb: float, ram_gb: float, name: str | None) -> None:
    """Main memory is no help, since its code uses flash-attn."""
    place = machine(ram_gb=ram_gb, vram_gb=vram_gb)
    choice = recommend(place, ALL, PLAN, family=TANUKI_8X8B)
    assert (choice.variant.tag if choice.variant else None) == name
    assert ("NVIDIA" in choice.reason) is (name is None)
    assert ("smallest takes about 26.7 GB" in choice.reason) is (vram_gb == 24)
    shared = replace(place, gpus=tuple(replace(gpu, unified=True) for gpu in place.gpus))
    assert recommend(shared, ALL, PLAN, family=TANUKI_8X8B).variant is None


def test_what_needs_code_of_its_own_is_never_chosen_before_what_does_not() -> None:
    giant = machine(ram_gb=500, vram_gb=500)
    own, plain = VARIANT_BY_NAME["tanuki-8x8b:full"], VARIANT_BY_NAME["tanuki-8b:q2_k"]
    assert best_installed([own, plain], giant, ALL, PLAN) is plain
    assert best_installed([own], giant, ALL, PLAN) is own


def test_packed_8_bit_weights_are_unpacked_on_a_cpu() -> None:
    variant = VARIANT_BY_NAME["tanuki-8b:gptq-8bit"]
    on_cpu = fit(variant, machine(ram_gb=64), ALL, PLAN)
    on_gpu = fit(variant, machine(ram_gb=64, vram_gb=24), ALL, PLAN)
    assert on_cpu.need_bytes > 2 * variant.approximate_bytes > on_gpu.need_bytes
    assert fit(variant, machine(ram_gb=12), ALL, PLAN).place is None


def test_layers_on_a_small_gpu_are_in_the_reason() -> None:
    small = machine(ram_gb=16, vram_gb=4)
    assert "run on the GPU" in recommend(small, ALL, PLAN).reason
    assert "tanuki doctor" in recommend(small, PLAIN, PLAN).reason
    assert "GPU" not in recommend(machine(ram_gb=16), PLAIN, PLAN).reason


def test_settings_of_memory_change_the_choice_and_its_reason() -> None:
    """--kv-type and --gpu-layers count as they do when the model is loaded."""
    middle = machine(ram_gb=32, vram_gb=12)
    variant = VARIANT_BY_NAME["tanuki-8b:q4_k_m"]
    whole = variant.family.shape.n_layers + 1
    offloads = [replace(PLAN, gpu_layers=count) for count in (whole, whole - 1, 0)]
    assert [fit(variant, middle, ALL, plan).place for plan in offloads] == ["gpu", "cpu", "cpu"]
    on_cpu = recommend(middle, ALL, replace(PLAN, gpu_layers=0))
    assert on_cpu.variant is variant
    assert "GPU" not in on_cpu.reason
    assert "GPU" not in recommend(machine(ram_gb=16, vram_gb=4), ALL, replace(PLAN, gpu_layers=8)).reason
    plans = [MemoryPlan(context_length=8192, kv_type="q8_0"), MemoryPlan(context_length=8192)]
    small, large = (fit(variant, machine(ram_gb=64), ALL, plan).need_bytes for plan in plans)
    tight = machine(ram_gb=(small + large) / 2 / GB)
    assert [fit(variant, tight, ALL, plan).place for plan in plans] == ["cpu", None]


def test_what_the_missing_engine_would_run_better_is_in_the_reason() -> None:
    large = machine(ram_gb=64, vram_gb=24)
    assert "most exact" in recommend(large, ALL, PLAN).reason
    without = recommend(large, engines(llama_cpp_gpu=True), PLAN)
    assert "tanuki-8b:full would fit too" in without.reason
    assert "most exact" not in without.reason
    middle = machine(ram_gb=64, vram_gb=12)
    without = recommend(middle, engines(llama_cpp_gpu=True), PLAN)
    assert "tanuki-8b:full" not in without.reason


def test_nothing_runs_without_llama_cpp_whatever_the_memory() -> None:
    choice = recommend(machine(ram_gb=64), engines(llama_cpp=False), PLAN)
    assert choice.variant is None
    assert "llama.cpp is not installed" in choice.reason


def test_8x8b_without_its_engine_is_not_said_to_be_too_large() -> None:
    place = machine(ram_gb=64, vram_gb=48)
    choice = recommend(place, PLAIN, PLAN, family=TANUKI_8X8B)
    assert choice.variant is None
    assert "engine is not installed" in choice.reason


def test_every_gpu_holds_back_some_memory() -> None:
    one, variant = machine(ram_gb=64, vram_gb=24), VARIANT_BY_NAME["tanuki-8b:full"]
    halves = replace(one.gpus[0], free_bytes=one.gpus[0].free_bytes // 2)
    two = replace(one, gpus=(halves, halves))
    needs = [fit(variant, place, ALL, PLAN).need_bytes for place in (one, two)]
    assert needs[1] - needs[0] == GB


def test_refused_variants_run_nowhere() -> None:
    giant = machine(ram_gb=1000, vram_gb=1000)
    for variant in VARIANTS:
        place = fit(variant, giant, ALL, PLAN)
        assert place.runs is not variant.refused


def test_best_installed_prefers_what_fits() -> None:
    q8, q4, q2, full = (VARIANT_BY_NAME[f"tanuki-8b:{tag}"] for tag in ("q8_0", "q4_k_m", "q2_k", "full"))

    def best(*installed: object, ram_gb: float, vram_gb: float = 0) -> object:
        chosen = [variant for variant in (q8, q4, q2, full) if variant in installed]
        return best_installed(chosen, machine(ram_gb=ram_gb, vram_gb=vram_gb), ALL, PLAN)

    assert best(ram_gb=16) is None
    assert best(q8, q4, q2, ram_gb=16) is q4
    assert best(q8, q2, ram_gb=16) is q2
    assert best(q8, q4, ram_gb=16, vram_gb=16) is q8
    assert best(q8, q4, q2, ram_gb=4) is q2
    assert best(q8, q4, ram_gb=1) is q4
    assert best_installed([full], machine(ram_gb=64), PLAIN, PLAN) is None


def test_context_beyond_the_model_costs_nothing_more() -> None:
    variant = VARIANT_BY_NAME["tanuki-8b:q4_k_m"]
    longest = estimate_variant(variant, context_length=8192)
    assert longest.kv_cache == 8192 * 128 * 1024
    assert estimate_variant(variant, context_length=100_000) == longest
