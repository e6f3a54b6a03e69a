"""Limits: what has to be done with bytes adds up on the cores, and a disk works meanwhile."""

import numpy as np
import pytest

from benchmarks import limits
from benchmarks.cells.sizes import sizes
from benchmarks.machine import work
from benchmarks.results.limits import Work, command_work, least_seconds, load_work
from fixtures import content

GB = 10**9
CEILINGS = {"read_warm_gbs": 10.0, "read_cold_gbs": 1.0, "decode_gbs": 2.0, "encode_gbs": 1.0, "cast_gbs": 4.0} | {
    "digest_gbs": 5.0,
    "write_gbs": 0.5,
}


def test_work_of_the_cores_adds_up_and_the_disk_works_meanwhile() -> None:
    """The longer of both is the least time; what is read cold costs the disk, not the cores."""
    assert least_seconds(Work(read=10 * GB, decode=10 * GB, cast=4 * GB), CEILINGS) == pytest.approx(1 + 5 + 1)
    assert least_seconds(Work(read=10 * GB, decode=10 * GB), CEILINGS, cold=True) == pytest.approx(10)
    assert least_seconds(Work(decode=10 * GB, write=10 * GB), CEILINGS) == pytest.approx(20)


def test_nothing_is_known_without_a_ceiling() -> None:
    """A speed that was not measured, or is not in an old file, gives no limit, unless it is not needed."""
    assert least_seconds(Work(decode=GB), {**CEILINGS, "decode_gbs": None}) is None
    assert least_seconds(Work(decode=GB), {}) is None
    assert least_seconds(Work(digest=GB), {"digest_gbs": 2.0}) == pytest.approx(0.5)


def test_a_load_casts_only_what_becomes_smaller() -> None:
    assert load_work(9, 10, 10).cast == 0
    assert load_work(9, 10, 5).cast == 10


def test_every_command_that_reads_arrays_has_its_work() -> None:
    """A fold encodes the weights that have adapters; attach encodes nothing."""
    model = limits.bytes_of(sizes("cpu")["tiny"])
    spec = sizes("cpu")["tiny"].model(lora=True)
    params = content.params(spec)
    assert model.base + model.adapters == sum(array.size * 4 for array in params.values())
    assert 0 < model.folded < model.base
    fold, attach = (command_work(name, 1000, *model) for name in ("fold", "attach"))
    assert fold
    assert attach
    assert (fold.encode, attach.encode) == (model.folded, 0)
    assert command_work("convert --to openpi_pytorch", 1000, *model)
    assert command_work("inspect", 1000, *model) is None


def test_rates_of_this_machine_have_their_magnitude(tmp_path) -> None:
    """Each kind of work is measured, on the values that it says, and leaves no file."""
    found = work.rates(tmp_path, 4 << 20)
    assert found.keys() == {"decode_gbs", "encode_gbs", "digest_gbs", "cast_gbs", "write_gbs"}
    assert all(rate and 0.001 < rate < 1000 for rate in found.values())
    assert not list(tmp_path.iterdir())


def test_every_byte_is_encoded_once() -> None:
    """Threads that share the bytes take each piece once."""
    pieces = [list(work._pieces(start, end)) for start, end in ((0, 700_000), (700_000, 2 << 20))]
    assert sorted(np.concatenate(pieces)) == list(range(4))
