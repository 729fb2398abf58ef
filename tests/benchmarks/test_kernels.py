"""What the suite `kernels` measures, and how it judges. No time is judged here."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.context import Context
from benchmarks.schema import Case, Ceilings, Measurement, Verification
from benchmarks.settings import Settings
from benchmarks.suites.kernels import (
    Operands,
    calls_a_turn,
    checker,
    levels,
    rotation,
    same,
    with_bandwidth,
)
from benchmarks.timing import summarise
from hero_kernels.temporal_attention_im3.reference import temporal_attention_im3 as reference
from tests.kernels import interpreter

CEILINGS = Ceilings(dtype="fp32", flops_per_s=1e12, matmul_size=1, bytes_per_s=1e9, copy_bytes=1)


def test_operands_are_the_presets_levels_at_both_sizes():
    shapes = {operands.name: operands.shape for operands in levels(Settings(device="cuda"))}
    assert len(shapes) == 16
    assert shapes["256x256x16 L0 C320 fp16"] == (1, 16, 1024, 320)
    assert shapes["512x512x16-cfg L0 C320 fp16"] == (2, 16, 4096, 320)
    assert {shape for name, shape in shapes.items() if name.startswith("256x256x16-cfg")} == {
        (2, 16, 1024, 320), (2, 16, 256, 640), (2, 16, 64, 1280), (2, 16, 16, 1280)
    }  # fmt: skip


def test_one_wrong_token_is_a_mismatch_and_rounding_is_none():
    operands = Operands("case", (1, 8, 6, 16), 2, "fp16")
    q, k, v, alpha = operands.make(torch.device("cpu"))
    want = reference(q.float(), k.float(), v.float(), alpha, 2)
    check = checker(operands, q, k, v, alpha)
    rounded = check(want.half())
    assert rounded.passed
    assert 1e-5 < rounded.relative_l2 < 2**-11  # half a unit in FP16's last place, of a value
    assert not check(torch.full_like(want, float("nan"))).passed
    wrong = want.clone()
    wrong[0, 3, 2, 1] += 0.1
    seen = check(wrong)
    assert not seen.passed
    assert seen.relative_l2 == pytest.approx(0.1 / want[0, 3, 2].norm().item(), rel=1e-3)
    assert same(v.clone(), v).passed
    assert not same(v + 1, v).passed


def test_bandwidth_counts_q_k_v_read_and_o_written_and_is_held_against_a_copy():
    operands = Operands("case", (2, 16, 1024, 320), 8, "fp16")
    assert operands.work.bytes == 4 * 2 * 16 * 1024 * 320 * 2
    assert operands.work.flops == 2 * 2 * (2 * 1024 * 8) * 16 * 16 * 40  # two products of F x F x d a head and token
    passed = Verification(against="truth", relative_l2=0, limit=1, passed=True)
    measurements = [
        Measurement(name=name, verification=passed, timing=summarise([seconds], 0))
        for name, seconds in (("fused", 2e-3), ("copy", 1e-3))
    ]
    fused, copy = with_bandwidth(
        Case(name="c", baseline="eager", work=operands.work, measurements=measurements)
    ).measurements
    assert fused.figures == {"bytes_per_s": operands.work.bytes / 2e-3, "share_of_copy": 0.5}
    assert copy.figures["share_of_copy"] == 1.0


def test_copies_take_turns_and_each_keeps_its_result():
    copies = [(torch.full((2,), float(n)), 10.0) for n in range(3)]
    call = rotation(torch.mul, copies)
    results = [call() for _ in range(4)]
    assert [result.tolist() for result in results] == [[0.0, 0.0], [10.0, 10.0], [20.0, 20.0], [0.0, 0.0]]
    assert len({result.data_ptr() for result in results[:3]}) == 3  # none was freed and written over


def test_a_turn_on_a_gpu_moves_twice_its_cache(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(L2_cache_size=50 << 20))
    small = Operands("L3", (2, 16, 16, 1280), 8, "fp16")
    large = Operands("L0", (2, 16, 1024, 320), 8, "fp16")
    assert calls_a_turn(small, torch.device("cpu")) == 1
    assert calls_a_turn(small, torch.device("cuda")) == 20  # of 5.2 MB
    assert calls_a_turn(large, torch.device("cuda")) == 8  # of 84 MB


@pytest.mark.slow
def test_tuning_verifies_every_configuration_against_the_default_one():
    operands = Operands("case", (1, 8, 6, 16), 2, "fp32")
    context = Context(Settings(device="cpu", repeats=1), CEILINGS, say=print)
    with interpreter.start() as pool:
        tune = interpreter.runner(pool, "benchmarks.suites.kernels", "tune")
        case = tune(operands, context)
    names = [m.name for m in case.measurements]
    assert len(names) == len({*names}) > 20
    assert case.baseline in names
    for m in case.measurements:
        assert m.verification.relative_l2 < 1e-5
        assert m.ratio == pytest.approx(case.find(case.baseline).timing.median / m.timing.median)
