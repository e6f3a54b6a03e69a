"""FLOPs of a step equal those that the benchmarks count from the fixtures' layout, by other code."""

import pytest

from benchmarks.cells import flops as counted
from fixtures import specs
from fixtures.specs import Family, LoraPlacement
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.paths import VISION
from pi0_compat.planning.flops import serving_flops, training_flops

# Projections of single tokens, which the two count a little differently.
CLOSE = 2e-3


@pytest.mark.parametrize("siglip", [True, False])
@pytest.mark.parametrize("lora", ["none", "both", "paligemma"])
@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_a_step(family: Family, lora: LoraPlacement, siglip: bool) -> None:
    spec = specs.small(family, lora=lora)
    model = Pi0Spec.from_json({**spec})
    trainable = counted.trainable_paths(spec, siglip=siglip)

    def is_frozen(path: str) -> bool:
        return model.is_frozen(path) or (not siglip and path.startswith(VISION))

    assert training_flops(model, is_frozen) == pytest.approx(counted.training(spec, trainable).model_flops, rel=CLOSE)


@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_a_call(family: Family) -> None:
    spec = specs.small(family)
    assert serving_flops(Pi0Spec.from_json({**spec})) == pytest.approx(counted.sampling(spec).model_flops, rel=CLOSE)
