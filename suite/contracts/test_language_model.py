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


def language_model(*, adapters: bool | None = None) -> Params:
    """Return the language model's token table, layers and adapters: all, the adapters alone, or all but them."""
    params = content.params(SPEC)
    whole = {path: x for path, x in params.items() if path.startswith("PaliGemma/llm/") and "_1/" not in path}
    return {path: x for path, x in whole.items() if adapters is None or is_adapter(path) is adapters}


@contract(source="google-deepmind/gemma peft/_tree_utils.py", needs=("extract", "lora", "partial"))
def test_extract_gives_the_base(subject: Subject) -> None:
    """The base that is split from a language model is every parameter that is no adapter, bit for bit."""
    assert_same_bits(subject.extract(SPEC, language_model())["base"], language_model(adapters=False))


@contract(source="google-deepmind/gemma peft/_tree_utils.py", needs=("extract", "lora", "partial"))
def test_extract_gives_the_adapters(subject: Subject) -> None:
    """The adapters that are split from a language model are all of them, bit for bit."""
    assert_same_bits(subject.extract(SPEC, language_model())["lora"], language_model(adapters=True))


@contract(source="requested by users: openpi #985; google-deepmind/gemma peft/_tree_utils.py", needs=NEEDS)
def test_merge_undoes_extract(subject: Subject) -> None:
    """Merging the base and the adapters of a language model gives the language model, bit for bit."""
    merged = subject.merge(SPEC, language_model(adapters=False), language_model(adapters=True))
    assert_same_bits(merged, language_model())


@contract(source="openpi weight_loaders.py:90; docs/bugs.md#c4", needs=NEEDS)
def test_half_an_adapter_is_not_merged(subject: Subject) -> None:
    """An adapter with one matrix missing is not merged into a language model, and the error names the missing one."""
    base, lora = language_model(adapters=False), language_model(adapters=True)
    for path in lora:
        with refused(path):
            subject.merge(SPEC, base, {p: x for p, x in lora.items() if p != path})
