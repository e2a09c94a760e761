import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gecko_core.encode import probe
from gecko_core.encode.probe import (
    AttentionTimes,
    Choices,
    Measured,
    choices,
    choose,
    compute_choice,
    explained,
    measure,
    two_products_are_faster,
)
from gecko_core.errors import ConfigError


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("GECKO_COMPUTE", raising=False)
    for kept in (probe._choices, probe._training):
        kept.cache_clear()
    yield tmp_path / "gecko"
    for kept in (probe._choices, probe._training):
        kept.cache_clear()


def measured(products=None, **attention):
    times = {str(length): (1.0, 0.5) for length in probe._LENGTHS} | attention
    return Measured(products=products or {"PyTorch": 1.0}, attention={"float32": times})


def test_it_is_measured_once_and_kept(cache, monkeypatch):
    first = choices()
    (kept,) = cache.iterdir()
    assert choose(Measured.model_validate_json(kept.read_text())) == first
    monkeypatch.setattr(probe, "measure", lambda: pytest.fail("measured again"))
    probe._choices.cache_clear()
    assert choices() == first


def test_attention_with_its_gradients_is_measured_for_itself(cache, monkeypatch):
    """In bf16 the fused kernel's backward pass may take many times as long as that of two products."""
    monkeypatch.setattr(probe, "measure", lambda: measured(**{str(length): (1.0, 2.0) for length in probe._LENGTHS}))
    assert not two_products_are_faster(torch.float32, 32)
    with torch.inference_mode():  # whatever surrounds it
        found = probe.measure_training()
    assert set(found.attention) >= {"float32"}
    assert all(a > 0 and b > 0 for times in found.attention.values() for a, b in times.values())
    times = AttentionTimes(attention={"float32": dict.fromkeys(probe._LENGTHS, (1.0, 0.5))})
    monkeypatch.setattr(probe, "measure_training", lambda: times)
    assert two_products_are_faster(torch.float32, 512, gradients=True)
    assert not two_products_are_faster(torch.float32, 5000, gradients=True)
    assert not two_products_are_faster(torch.bfloat16, 32, gradients=True)  # not measured
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(probe, "measure_training", lambda: pytest.fail("measured again"))
    probe._training.cache_clear()
    assert two_products_are_faster(torch.float32, 512, gradients=True)


def test_another_number_of_threads_is_measured_for_itself(cache, monkeypatch):
    monkeypatch.setattr(probe, "measure", measured)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            choices()
    finally:
        torch.set_num_threads(before)
    assert len(list(cache.iterdir())) == 2


WHOLE = measured().model_dump()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"products": {}}',
        '{"products": {"a": "NaN"}, "attention": {}}',
        *map(
            json.dumps,
            [
                WHOLE | {"products": {}},
                WHOLE | {"products": {"PyTorch": 1.0, "another": 1.0}},
                WHOLE | {"products": {"PyTorch": -1.0}},
                WHOLE | {"attention": {}},
                WHOLE | {"attention": {"float32": {}}},
                WHOLE | {"attention": WHOLE["attention"] | {"float16": {}}},
            ],
        ),
        pytest.param(" " * 70_000, id="large"),
    ],
)
def test_a_damaged_file_is_measured_again(cache, content, monkeypatch):
    monkeypatch.setattr(probe, "measure", measured)
    choices()
    (kept,) = cache.iterdir()
    kept.write_text(content)
    probe._choices.cache_clear()
    assert isinstance(choices(), Choices)
    probe._choices.cache_clear()
    choices()
    (again,) = cache.iterdir()
    assert json.loads(again.read_text())["products"] == {"PyTorch": 1.0}


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_read(cache, kind, monkeypatch):
    monkeypatch.setattr(probe, "measure", measured)
    path = probe._path(torch.get_num_threads())
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    assert isinstance(choices(), Choices)


def test_what_a_killed_process_left_is_removed(cache, monkeypatch):
    monkeypatch.setattr(probe, "measure", measured)
    path = probe._path(torch.get_num_threads())
    path.parent.mkdir()
    old, new = (path.with_name(f"{path.stem}-{number}.json") for number in (1, 2))
    for left in (old, new):
        left.write_text("{")
    os.utime(old, (0, 0))
    choices()
    assert sorted(cache.iterdir()) == sorted([path, new])


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.isdir("/proc"), reason="needs a folder that cannot be made")
def test_nowhere_to_keep_it(monkeypatch):
    monkeypatch.setattr(probe, "measure", measured)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert isinstance(choices(), Choices)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    probe._choices.cache_clear()
    assert isinstance(choices(), Choices)


def test_two_that_measure_at_once_agree(cache, monkeypatch):
    other = measured(products={"PyTorch": 7.0})
    path = probe._path(torch.get_num_threads())

    def meanwhile():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(other.model_dump_json())
        return measured(products={"PyTorch": 1.0})

    assert probe._keep(path, meanwhile()) == other
    assert [found.name for found in cache.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("amd", "times", "plain"),
    [
        (True, {"PyTorch": 1.0, "oneDNN": 1.05}, True),  # not clearly slower
        (True, {"PyTorch": 1.0, "oneDNN": 1.2}, False),
        (False, {"PyTorch": 1.0, "oneDNN": 0.95}, False),  # not clearly faster
        (False, {"PyTorch": 1.0, "oneDNN": 0.8}, True),
        (True, {"PyTorch": 1.0}, False),
    ],
)
def test_the_usual_product_stays_unless_another_is_clearly_faster(amd, times, plain, monkeypatch):
    monkeypatch.setattr(probe, "_amd_with_avx512", lambda: amd)
    assert choose(measured(products=times)).onednn == plain
    assert not choose(measured(products=times)).prepared  # not there
    assert choose(measured(products=times | {"oneDNN, prepared": 1.05})).prepared
    assert not choose(measured(products=times | {"oneDNN, prepared": 1.2})).prepared


def test_two_products_up_to_the_length_where_they_lose():
    slow = (1.0, 2.0)
    found = [
        choose(measured(**{"32": a, "128": b, "256": c, "512": c})).two_products
        for a, b, c in [((1, 0.5),) * 3, ((1, 0.5), (1, 1.05), (1, 0.95)), ((1, 0.5), slow, (1, 0.5)), (slow,) * 3]
    ]
    # 256 is beyond the usual 128: there they must be clearly faster.
    assert found == [{"float32": 1024}, {"float32": 192}, {"float32": 80}, {"float32": 0}]


def test_what_is_measured():
    found = measure()
    assert found.products["PyTorch"] > 0
    assert set(found.attention) >= {"float32"}
    assert all(a > 0 and b > 0 for times in found.attention.values() for a, b in times.values())


@pytest.mark.parametrize(
    ("disturbed", "rounds"),
    [
        ([], 4),
        ([9, 7, 5, 8], 6),  # on a busy machine until two rounds agree
        ([60, 50, 40, 30], 4),  # or enough time is spent
    ],
)
def test_rounds_of_a_busy_machine_are_not_what_counts(disturbed, rounds, monkeypatch):
    clock, calls = [0.0], {"a": 0, "b": 0}

    def way(name, ms):
        def run():
            number = calls[name] - 1  # the first call does not count
            calls[name] += 1
            clock[0] += (disturbed[number] * ms if 0 <= number < len(disturbed) else ms) / 1000

        return run

    monkeypatch.setattr(probe.time, "perf_counter", lambda: clock[0])
    found = probe._milliseconds(way("a", 1.0), way("b", 2.0))
    assert calls == {"a": rounds + 1, "b": rounds + 1}
    shortest = min(disturbed) if rounds == len(disturbed) else 1
    assert found == pytest.approx([shortest * 1.0, shortest * 2.0])


def test_explained():
    found = measured(products={"PyTorch": 2.0, "oneDNN": 1.0, "oneDNN, prepared": 0.9})
    lines = explained(found, Choices(True, True, {"float32": 0}), 3, "measured now, in 5 ms").splitlines()
    assert "3 threads" in lines[0]
    assert "measured now, in 5 ms" in lines[0]
    assert "PyTorch 2.00 ms, oneDNN 1.00 ms" in lines[1]
    assert lines[1].endswith("taken: oneDNN, without gradients oneDNN")
    assert lines[2].endswith("256: 1.00 / 0.50 ms, 512: 1.00 / 0.50 ms; taken: fused")


def test_explain_prints_it_once(tmp_path):
    code = (
        "import torch; from gecko_core.encode.probe import two_products_are_faster as faster\n"
        "for gradients in (False, True, False, True): faster(torch.float32, 32, gradients=gradients)"
    )
    environment = os.environ | {"GECKO_COMPUTE": "explain", "XDG_CACHE_HOME": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("fp32 products:") == 1
    assert ran.stderr.count("compute, with gradients (measured now") == 1
    assert ran.stdout == ""


def test_other_choices_are_refused(monkeypatch):
    monkeypatch.setenv("GECKO_COMPUTE", "mkl")
    with pytest.raises(ConfigError, match="GECKO_COMPUTE must be auto, torch or explain, not 'mkl'"):
        compute_choice()
