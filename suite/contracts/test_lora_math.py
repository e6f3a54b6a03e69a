"""What adapters compute, by the subject's own forward pass: the oracle is never a formula typed again."""

import pytest

from fixtures import content, observations
from fixtures.specs import ModelSpec, tiny, without_lora
from suite.asserts import assert_close, assert_different, assert_same_paths
from suite.cases import is_adapter
from suite.registry import contract
from suite.subjects.protocol import Subject

SPECS = {
    "one_kv_head": tiny("pi0", lora="both"),
    "two_kv_heads": tiny("pi05", lora="both", num_kv_heads=2),
    "as_many_kv_heads_as_query_heads": tiny("pi0", lora="both", num_kv_heads=6),
}
# The folded and the adapted model round differently: float32 eps (1.2e-7) over three layers of sums of about 100 terms.
FOLD_RTOL = 1e-4


@contract(
    source="openpi lora.py:53 and its head sum; bugs A3, A4, A5, A17",
    needs=("fold", "loss", "lora"),
)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_fold_equals_forward(subject: Subject, spec: ModelSpec) -> None:
    """Folding adapters into the weights leaves no adapter and changes no loss, with alpha != rank and random A, B."""
    params, batch = content.params(spec), observations.batch(spec)
    folded = subject.fold(spec, params)
    assert_same_paths(folded, {path for path in params if not is_adapter(path)})
    adapted = subject.loss(spec, params, batch, batch["noise"], batch["time"], seed=0)
    base = without_lora(spec)
    assert_close(
        subject.loss(base, folded, batch, batch["noise"], batch["time"], seed=0),
        adapted,
        rtol=FOLD_RTOL,
    )
    unadapted = {path: params[path] for path in folded}
    assert_different(subject.loss(base, unadapted, batch, batch["noise"], batch["time"], seed=0), adapted)
