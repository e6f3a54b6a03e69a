"""Sources that transform another source: a fold in slabs equals the fold of the whole, for any slab size."""

import numpy as np
import pytest

from pi0_compat.errors import LoadError
from pi0_compat.lora import fold as lora_fold
from pi0_compat.lora.fold_stream import FoldedStream
from pi0_compat.lora.sites import lora_of
from pi0_compat.storage import stream as slabs_module
from pi0_compat.storage.stream import whole
from pi0_compat.storage.transforms import Cast, Chosen, Digested, Joined
from suite.writing.asserts import assert_close, assert_same_bits
from tests.pi0_compat.in_memory import InMemory
from tests.pi0_compat.tiny_models import ADAPTERS, LINEAR, LORA, Params, lora_params, without

WHOLE = lora_params()
# Sums of at most rank x heads products of order one, in another order; float32 eps is 1.2e-7.
FOLD_ATOL = 1e-5


def read(source) -> Params:
    return {path: whole(source.slabs(path)) for path in source.leaves}


@pytest.mark.parametrize("slab", [1, 20_000, 1 << 30], ids=["a layer", "some layers", "all layers"])
def test_each_layer_gets_its_own_adapter(monkeypatch: pytest.MonkeyPatch, slab: int) -> None:
    """With any number of layers in a slab, the fold and the rounding loss are those of the whole."""
    monkeypatch.setattr(slabs_module, "BLOCK_BYTES", slab)
    folded = FoldedStream(InMemory(WHOLE), lora_of(LORA))
    expected = lora_fold.fold(WHOLE, LORA)
    restored = read(folded)
    assert restored.keys() == expected.params.keys()
    for path, array in expected.params.items():
        assert_close(restored[path], array, atol=FOLD_ATOL, name=path)
    assert folded.lost.keys() == expected.lost.keys()
    assert all(share < 1e-5 for share in folded.lost.values())


def test_half_an_adapter_is_refused_with_the_checkpoint() -> None:
    """Errors of the functions on arrays are prefixed with the path of the file."""
    with pytest.raises(LoadError, match=f"^memory: {LINEAR}_lora_b is missing, but the rest of its adapter is there"):
        FoldedStream(InMemory(without(WHOLE, f"{LINEAR}_lora_b")), lora_of(LORA))


def test_a_zero_delta_loses_nothing() -> None:
    """A zero delta loses nothing and causes no division by zero."""
    zeros = {path: np.zeros_like(WHOLE[path]) for path in ADAPTERS if path.endswith("lora_b")}
    folded = FoldedStream(InMemory(WHOLE | zeros), lora_of(LORA))
    read(folded)
    assert set(folded.lost.values()) == {0.0}


def test_chosen_and_joined_are_the_whole() -> None:
    """Splitting and joining gives the original parameters."""
    source = InMemory(WHOLE)
    base, adapters_alone = Chosen(source, lambda path: path not in ADAPTERS), Chosen(source, ADAPTERS.__contains__)
    assert set(adapters_alone.leaves) == set(ADAPTERS)
    assert_same_bits(read(Joined(base, adapters_alone)), WHOLE)


def test_a_cast_to_its_own_dtype_keeps_every_bit() -> None:
    """Existing NaN and infinities are not overflow."""
    params = {"a": np.array([np.nan, np.inf, -0.0, 1e30], np.float32)}
    assert_same_bits(read(Cast(InMemory(params), "float32")), params)
    assert not np.isfinite(read(Cast(InMemory({"a": params["a"][:2]}), "float16"))["a"]).any()
    with pytest.raises(LoadError, match="memory: a has finite values that overflow in float16"):
        read(Cast(InMemory(params), "float16"))


def test_digests_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest does not depend on the slabs."""
    digests = []
    for slab in (1, 1 << 30):
        monkeypatch.setattr(slabs_module, "BLOCK_BYTES", slab)
        source = Digested(InMemory(WHOLE))
        read(source)
        digests.append(source.digests)
    assert digests[0] == digests[1]
    assert digests[0].keys() == WHOLE.keys()
