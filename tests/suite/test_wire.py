"""Values sent between processes arrive unchanged."""

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from suite.subjects.process.wire import decode, encode
from suite.writing.asserts import assert_same_bits

DTYPES = ["float32", "float16", "float64", "int8", "int32", "bool", ml_dtypes.bfloat16, ">f4", ml_dtypes.float8_e4m3fn]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)], ids=str)
def test_an_array_arrives_bit_for_bit(dtype: Any, shape: tuple[int, ...]) -> None:
    array = np.arange(6)[: int(np.prod(shape))].reshape(shape).astype(dtype)
    assert_same_bits({"x": decode(encode(array))}, {"x": array})


def test_a_transposed_array_arrives_in_its_own_order() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert_same_bits({"x": decode(encode(array))}, {"x": np.ascontiguousarray(array)})


def test_received_arrays_are_writable() -> None:
    decode(encode(np.zeros(3)))[0] = 1


def test_nested_data_keep_their_places() -> None:
    sent = {"params": {"a/b": np.float32(2.5)}, "losses": (1.0, None), "paths": ["x", True]}
    assert decode(encode(sent)) == {"params": {"a/b": 2.5}, "losses": [1.0, None], "paths": ["x", True]}


def test_plain_data_stay_plain() -> None:
    sent = {"kind": "checkpoint", "n": 3, "flags": [True, None]}
    assert encode(sent) == sent
    assert json.dumps(encode(sent)) == json.dumps(sent)


def test_an_array_of_objects_cannot_be_sent() -> None:
    """Its bytes are addresses of the sending process."""
    with pytest.raises(TypeError, match="array of Python objects"):
        encode({"a": np.array([object()])})
