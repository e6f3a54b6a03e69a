"""Sizes and options as data: JSON in and out, mistakes refused at construction."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.specs import Family, LoraPlacement, tiny
from pi0_compat.model import specs
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import ExpertLoRA, GemmaSpec, LoRASpec

ADAPTERS = st.builds(
    LoRASpec,
    rank=st.integers(1, 8),
    alpha=st.floats(0.125, 64.0),
    rslora=st.booleans(),
)
EXPERT_ADAPTERS = st.builds(ExpertLoRA, attn=st.none() | ADAPTERS, ffn=st.none() | ADAPTERS)


def gemma(**changes: Any) -> GemmaSpec:
    sizes = {
        "width": 8,
        "depth": 2,
        "mlp_dim": 12,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 6,
    }
    return GemmaSpec(**(sizes | changes))


def pi0_json(**changes: Any) -> dict[str, Any]:
    return {**tiny(), **changes}


@given(
    family=st.sampled_from(["pi0", "pi05"]),
    kv_heads=st.sampled_from([1, 2, 6]),
    paligemma=EXPERT_ADAPTERS,
    action_expert=EXPERT_ADAPTERS,
)
def test_json_round_trip(family: Family, kv_heads: int, paligemma: ExpertLoRA, action_expert: ExpertLoRA) -> None:
    """A spec survives a round trip through JSON text, nested records included."""
    data: dict[str, Any] = {**tiny(family, num_kv_heads=kv_heads)}
    data["paligemma"]["lora"], data["action_expert"]["lora"] = paligemma, action_expert
    spec = Pi0Config.from_json(data)
    assert Pi0Config.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_spec_and_its_json_are_hashed_alike() -> None:
    """Equal specs have equal hashes, so that compiled programs are reused."""
    assert len({Pi0Config.from_json(tiny(lora="both")) for _ in range(2)}) == 1


@pytest.mark.parametrize("kind", [LoRASpec, ExpertLoRA, GemmaSpec, Pi0Spec])
def test_unknown_keys_are_refused_by_name(kind: type[specs.Spec]) -> None:
    """An unknown key is refused with its name and the known ones."""
    with pytest.raises(ValueError, match=rf"{kind.__name__}: unknown keys \['rnak'\]; known ones"):
        kind.from_json({"rnak": 4})


def test_unknown_keys_of_nested_records_are_refused() -> None:
    """A misspelled key in a nested record is refused too."""
    data = pi0_json()
    data["paligemma"] |= {"lora": {"atn": {"rank": 4, "alpha": 4.0}}}
    with pytest.raises(ValueError, match="atn"):
        Pi0Spec.from_json(data)


def test_missing_keys_are_refused_by_name() -> None:
    """A record without a required key is refused with the key's name."""
    with pytest.raises((TypeError, ValueError), match="alpha"):
        LoRASpec.from_json({"rank": 4})


@pytest.mark.parametrize("changes", [{"rank": 0}, {"rank": -1}, {"alpha": 0.0}, {"alpha": -2.0}, {"alpha": "4"}])
def test_adapters_of_no_size_are_refused(changes: dict[str, Any]) -> None:
    """A rank or alpha that is not positive is refused by name and value."""
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=f"LoRASpec.{name} is {value!r}; expected a positive"):
        LoRASpec(**({"rank": 4, "alpha": 4.0} | changes))


@pytest.mark.parametrize("changes", [{"rank": 2.5}, {"alpha": math.nan}, {"alpha": math.inf}])
def test_adapters_of_impossible_size_are_refused(changes: dict[str, Any]) -> None:
    """A fractional rank and an alpha that is no finite number are refused."""
    with pytest.raises((TypeError, ValueError)):
        LoRASpec(**({"rank": 4, "alpha": 4.0} | changes))


def test_a_dtype_that_does_not_exist_is_refused() -> None:
    """A model cannot compute in an unknown dtype."""
    with pytest.raises((TypeError, ValueError), match="float33"):
        Pi0Spec.from_json(pi0_json(dtype="float33"))


@pytest.mark.parametrize("rank", [1, 2, 4, 9])
def test_scale(rank: int) -> None:
    """The scale is alpha / rank, or alpha / sqrt(rank) with rslora."""
    assert LoRASpec(rank=rank, alpha=6.0).scale == 6.0 / rank
    assert LoRASpec(rank=rank, alpha=6.0, rslora=True).scale == pytest.approx(6.0 / rank**0.5)


@pytest.mark.parametrize(("site", "limit"), [("attn", 8), ("ffn", 8)])
def test_a_rank_up_to_the_smaller_dimension_is_accepted(site: str, limit: int) -> None:
    """A rank may be as large as the smaller dimension of the weight, but no larger."""
    gemma(lora=ExpertLoRA(**{site: LoRASpec(rank=limit, alpha=1.0)}))
    with pytest.raises(ValueError, match=rf"lora.{site}.rank={limit + 1} exceeds {limit}"):
        gemma(lora=ExpertLoRA(**{site: LoRASpec(rank=limit + 1, alpha=1.0)}))


@pytest.mark.parametrize(
    "changes",
    [{"num_kv_heads": 3}, {"head_dim": 5}, {"width": 0}, {"depth": -1}, {"num_heads": 0}],
)
def test_impossible_gemmas_are_refused(changes: dict[str, Any]) -> None:
    """Heads that do not divide, an odd head dim and empty sizes are refused by name."""
    with pytest.raises(ValueError, match=next(iter(changes))):
        gemma(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"family": "pi1"},
        {"image_size": 29},
        {"action_dim": 0},
        {"max_token_len": -1},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": math.nan},
    ],
)
def test_impossible_models_are_refused(changes: dict[str, Any]) -> None:
    """An unknown family, an image that patches do not fill, empty sizes and a dropout of everything are refused."""
    with pytest.raises(ValueError, match=next(iter(changes))):
        Pi0Spec.from_json(pi0_json(**changes))


@pytest.mark.parametrize(("name", "value"), [("depth", 4), ("num_heads", 12), ("num_kv_heads", 2), ("head_dim", 12)])
def test_experts_that_cannot_attend_together_are_refused(name: str, value: int) -> None:
    """Experts of different depth, heads or head dim are refused with both values."""
    data = pi0_json()
    other = data["paligemma"][name]
    data["action_expert"] = {**data["action_expert"], name: value}
    with pytest.raises(ValueError, match=f"{name} has to be equal: {other} and {value}"):
        Pi0Spec.from_json(data)


@pytest.mark.parametrize("lora", ["none", "both", "paligemma", "action_expert"])
def test_lora_record_names_the_adapted_experts(lora: LoraPlacement) -> None:
    """A checkpoint's record has an entry for each adapted expert, and for no other."""
    spec = Pi0Spec.from_json({**tiny(lora=lora)})
    expected = {"none": set(), "both": set(specs.EXPERTS)}.get(lora, {lora})
    assert set(spec.lora) == expected
    assert spec.has_lora == bool(expected)


def test_an_adapter_record_without_adapters_is_none() -> None:
    """An expert whose LoRA has neither attention nor feed-forward adapters has no LoRA."""
    assert not gemma(lora=ExpertLoRA()).has_lora


def test_lora_alpha_is_the_rank_by_default() -> None:
    """The shorthand uses alpha equal to the rank, as openpi's variants do, unless it is given."""
    assert specs.lora(4).attn == LoRASpec(rank=4, alpha=4.0)
    assert specs.lora(4, alpha=10).ffn == LoRASpec(rank=4, alpha=10.0)
