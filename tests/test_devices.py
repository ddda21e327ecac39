"""Where to compute, and in which precision."""

import platform

import pytest
import torch
from ip2p.ip2p_pipeline.devices import find_device, find_dtype

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def an_x86(monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool) -> None:
    """Let this machine be one whose CPU has arithmetic for bfloat16, or not."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bfloat16)


def test_a_device_that_is_not_here_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"^--device nonsense can't be used here: .+\.$"):
        find_device("nonsense")


def test_the_usual_precision_is_an_accelerators_alone() -> None:
    assert find_dtype(None, GPU) == torch.float16
    assert find_dtype(None, GPU, torch.bfloat16) == torch.bfloat16
    assert find_dtype(None, CPU) == find_dtype(None, CPU, torch.bfloat16) == torch.float32


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_bfloat16_is_float32_on_a_cpu_that_would_emulate_it(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool
) -> None:
    an_x86(monkeypatch, has_bfloat16)
    assert find_dtype("bfloat16", CPU) == (torch.bfloat16 if has_bfloat16 else torch.float32)
    assert find_dtype("bfloat16", GPU) == torch.bfloat16
    assert find_dtype("float16", CPU) == torch.float16
