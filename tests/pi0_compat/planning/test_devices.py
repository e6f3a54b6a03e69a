"""The table of devices that plans are made for."""

import pytest

from pi0_compat.planning.devices import HOST, device, devices

GIB = 2**30


def test_it_reaches_from_16_to_192_gigabytes() -> None:
    """The smallest has 16 GB, the largest 192, and this machine comes last."""
    named = [each for each in devices() if each.name != HOST]
    assert (named[0].memory_bytes, named[-1].memory_bytes) == (16 * GIB, 192 * GIB)
    assert devices()[-1].name == HOST
    assert all(each.source and each.checked and each.bf16_flops and each.bytes_per_s for each in named)


def test_every_tpu_generation() -> None:
    assert {"TPU v4", "TPU v5 lite", "TPU v5", "TPU v6 lite"} <= {each.name for each in devices()}


@pytest.mark.parametrize("kind", ["rtx 4090", "NVIDIA GeForce RTX 4090"])
def test_a_part_of_a_name(kind: str) -> None:
    assert device(kind).name == "NVIDIA GeForce RTX 4090"


@pytest.mark.parametrize(("kind", "message"), [("H100", "may be .*H100 NVL"), ("RTX 4091", "closest names are .*4090")])
def test_an_unclear_name(kind: str, message: str) -> None:
    """A name of several devices, or of none, is rejected with those that may be meant."""
    with pytest.raises(ValueError, match=message):
        device(kind)
