"""Axes between openpi's einsums and torch's linear layers: inverse to each other, and the same function."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import content
from fixtures.writers import openpi_pytorch
from pi0_compat.layouts.torch.openpi import rules
from pi0_compat.layouts.torch.rules import Rule
from tests.pi0_compat.tiny_models import BASE, BASE_SPEC

AXES = sorted({rule.axes for rule in rules(BASE)})
PARAMS = content.params(BASE_SPEC)
LANGUAGE = "paligemma_with_expert.paligemma.model.language_model.layers.1"


def placed(rule: Rule, tensor: np.ndarray, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    piece = np.full(shape, np.nan, dtype)
    rule.place(tensor, piece)
    return piece


@given(st.sampled_from(AXES), st.lists(st.integers(1, 4), min_size=4, max_size=4), st.integers(0, 99))
def test_placing_a_tensor_is_the_inverse_of_to_torch(axes: str, sizes: list[int], seed: int) -> None:
    rule = Rule("path", axes, ("name",))
    shape = tuple(sizes[: len(rule.source)])
    piece = np.random.default_rng(seed).standard_normal(shape)
    tensor = rule.to_torch(piece)
    assert tensor.shape == rule.tensor_shape(shape)
    assert np.array_equal(placed(rule, tensor, shape, piece.dtype), piece)


def test_a_tensor_is_cast_to_the_piece_that_it_is_put_in() -> None:
    tensor = np.random.default_rng(0).standard_normal((70, 33), np.float32)
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float64):
        piece = placed(Rule("path", "IO->OI", ("name",)), tensor, (33, 70), dtype)
        np.testing.assert_array_equal(piece, tensor.T.astype(dtype), strict=True)


def test_every_parameter_has_one_rule() -> None:
    assert sorted(rule.path for rule in rules(BASE)) == sorted(BASE.param_spec())


def test_every_tensor_has_one_name() -> None:
    names = [name for rule in rules(BASE) for name, _ in rule.pieces()]
    assert len(names) == len(set(names))
    assert set(names) == openpi_pytorch.tensors(PARAMS).keys()


def test_layers_and_parts_are_indexed_together() -> None:
    rule = Rule("kv", "KDH->(KH)D", ("k.{layer}", "v.{layer}"), depth=2)
    assert list(rule.pieces()) == [("k.0", (0, 0)), ("v.0", (0, 1)), ("k.1", (1, 0)), ("v.1", (1, 1))]


# Each einsum of openpi for one token, and the linear layer that computes the same.
EINSUMS = {
    "q_proj": ("q_einsum/w", "ndh,d->nh", ()),
    "k_proj": ("kv_einsum/w", "kdh,d->kh", (0,)),
    "v_proj": ("kv_einsum/w", "kdh,d->kh", (1,)),
    "o_proj": ("attn_vec_einsum/w", "nhd,nh->d", ()),
}


@pytest.mark.parametrize("name", EINSUMS)
def test_the_linear_layer_computes_the_einsum(name: str) -> None:
    path, equation, part = EINSUMS[name]
    weight = PARAMS[f"PaliGemma/llm/layers/attn/{path}"][(1, *part)]
    linear = openpi_pytorch.tensors(PARAMS)[f"{LANGUAGE}.self_attn.{name}.weight"]
    x = np.random.default_rng(0).standard_normal(weight.shape[:2] if name == "o_proj" else weight.shape[1])
    np.testing.assert_allclose(linear @ x.reshape(-1), np.einsum(equation, weight, x).reshape(-1), rtol=1e-6)
