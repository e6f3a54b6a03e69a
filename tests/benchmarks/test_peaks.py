"""The table of device peaks: exact names, no defaults, consistent figures."""

from pathlib import Path

import pytest

from benchmarks.results.peaks import GIB, peak_of, peaks

ENTRY = """
[[device]]
kinds = ["Chip {name}"]
bf16_tflops = 10
memory_gbs = 100
memory_gb = {memory}
source = "a data sheet"
checked = 2026-11-22
"""


@pytest.mark.parametrize(
    ("kind", "memory_gib", "bf16_tflops", "memory_gbs"),
    [
        # nvidia-smi gives 143771 MiB for an H200, and jax may use 0.75 of it.
        ("NVIDIA H200", 143_771 / 1024, 989, 4800),
        ("NVIDIA H200", 0.75 * 143_771 / 1024, 989, 4800),
        ("NVIDIA H100 80GB HBM3", 79.6, 989, 3350),
        ("NVIDIA H100 PCIe", 79.6, 756, 2000),
        ("NVIDIA A100-SXM4-80GB", 80, 312, 2039),
        ("NVIDIA A100-SXM4-40GB", 40, 312, 1555),
        ("NVIDIA L40S", 45, 362, 864),
        ("TPU v4", 31.25, 275, 1228),
        ("TPU v5 lite", 15.75, 197, 819),
        ("TPU v5", 95.7, 459, 2765),
        ("TPU7x", 94.75, 1153.5, 3690),
    ],
)
def test_known_devices(kind: str, memory_gib: float, bf16_tflops: float, memory_gbs: float) -> None:
    """A device is found by jax's name for it, with its memory."""
    peak = peak_of(kind, int(memory_gib * GIB))
    assert peak == peak_of(kind)
    assert peak is not None
    assert (peak.bf16_tflops, peak.memory_gbs) == (bf16_tflops, memory_gbs)


@pytest.mark.parametrize(
    "kind",
    [
        "cpu",
        "",
        "NVIDIA",
        "NVIDIA H2000",
        "NVIDIA GH200 480GB",
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "nvidia h200",
        "TPU v3",
    ],
)
def test_unknown_devices_have_no_peak(kind: str) -> None:
    """A CPU, a new GPU or a slice of one has no peak: neither a part of a name nor a longer one matches."""
    assert peak_of(kind) is None


@pytest.mark.parametrize("memory_gib", [20, 160])
def test_another_memory_is_another_device(memory_gib: int) -> None:
    """A device with the name of one in the table but another memory does not match it."""
    assert peak_of("NVIDIA H100 80GB HBM3", memory_gib * GIB) is None


def test_memory_decides_between_devices_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory decides between two devices of one name, and without it no peak is returned."""
    table = tmp_path / "peaks.toml"
    table.write_text(ENTRY.format(name="X", memory=40) + ENTRY.format(name="X", memory=80))
    monkeypatch.setattr("benchmarks.results.peaks.peaks", lambda: peaks(table))
    assert peak_of("Chip X") is None
    small, large = peak_of("Chip X", 39 * GIB), peak_of("Chip X", 60 * GIB)
    assert small is not None
    assert large is not None
    assert (small.memory_gb, large.memory_gb) == (40, 80)


def test_no_two_entries_are_one_device() -> None:
    """The table is not ambiguous, and its figures have the magnitudes of their units."""
    kinds = [kind for peak in peaks() for kind in peak.kinds]
    assert len(kinds) == len(set(kinds)) > 20
    for peak in peaks():
        assert 50 <= peak.bf16_tflops <= 10_000, peak.kinds
        assert 100 <= peak.memory_gbs <= 10_000, peak.kinds
        # Every device fills its memory in ten to a hundred milliseconds.
        assert 0.01 <= peak.memory_gb / peak.memory_gbs <= 0.1, peak.kinds


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (ENTRY.replace('source = "a data sheet"\n', ""), r"peaks.toml: \['Chip {name}'\]: .*'source'"),
        (ENTRY + "colour = 3\n", "unknown keys .'colour'.*expected"),
        (ENTRY.replace("= 10\n", "= 0\n"), "'bf16_tflops'. must be positive"),
        (ENTRY.replace("= 10\n", '= "10"\n'), "'bf16_tflops'. must be positive"),
    ],
)
def test_a_broken_entry_is_rejected(broken: str, message: str, tmp_path: Path) -> None:
    """An entry without a source, with an unknown key or without a positive figure is named."""
    table = tmp_path / "peaks.toml"
    table.write_text(broken.replace("{memory}", "40"))
    with pytest.raises(ValueError, match=message):
        peaks(table)
