"""Adapters of a language model alone, for implementations that cover no more of a pi0."""

from fixtures import content
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny, with_lora
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_bits, refused
from suite.writing.cases import is_adapter

# LoRA on expert 0 only; the names of the other expert's modules end in _1.
SPEC: ModelSpec = with_lora(tiny(), action_expert=None)
NEEDS = ("merge", "lora", "partial")


def language_model() -> Params:
    """Return the language model's token table, layers and adapters."""
    params = content.params(SPEC)
    return {path: x for path, x in params.items() if path.startswith("PaliGemma/llm/") and "_1/" not in path}


@contract(
    source="requested by users: openpi #985; google-deepmind/gemma peft/_tree_utils.py", needs=(*NEEDS, "extract")
)
def test_merge_undoes_extract(subject: Subject) -> None:
    """Splitting a language model into base and adapters and merging them gives the language model, bit for bit."""
    params = language_model()
    parts = subject.extract(SPEC, params)
    assert_same_bits(parts["base"], {path: x for path, x in params.items() if not is_adapter(path)})
    assert_same_bits(parts["lora"], {path: x for path, x in params.items() if is_adapter(path)})
    assert_same_bits(subject.merge(SPEC, parts["base"], parts["lora"]), params)


@contract(source="openpi weight_loaders.py:90; docs/bugs.md#c4", needs=NEEDS)
def test_half_an_adapter_is_not_merged(subject: Subject) -> None:
    """An adapter with one matrix missing is not merged into a language model, and the error names the missing one."""
    params = language_model()
    base = {path: x for path, x in params.items() if not is_adapter(path)}
    lora = {path: x for path, x in params.items() if is_adapter(path)}
    for path in lora:
        with refused(path):
            subject.merge(SPEC, base, {p: x for p, x in lora.items() if p != path})
