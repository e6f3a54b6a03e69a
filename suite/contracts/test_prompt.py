"""The language model of a pi0 alone: logits of a prompt, against an independent computation."""

import ml_dtypes
import numpy as np
import pytest

from fixtures import content
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny, tiny_table
from suite.contracts import gemma_oracle
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_close, assert_different, assert_same_bits
from suite.writing.sizes import Sized, heads_as_wide_as_the_model

NEEDS = ("prompt_logits", "float32")
LLM = "PaliGemma/llm/"
# Implementations are within 3e-6 of float64 at logits up to 6.
ATOL = 3e-5
# bfloat16 has eight significant bits; the mean error over the mean size of a logit was 0.9 % when recorded, and the
# bound adds half of that.
BFLOAT16_RTOL = 0.014
MATTERS_ATOL = 1e-3
LONG = 400
SHAPES = {name: Sized(spec) for name, spec in tiny_table().items() if name != "pi05"} | {
    "heads_as_wide_as_the_model": Sized(heads_as_wide_as_the_model())
}
every_shape = pytest.mark.parametrize("sized", SHAPES.values(), ids=SHAPES)


def prompt(spec: ModelSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens and mask of two prompts; the second one ends in two tokens of padding."""
    tokens = np.random.default_rng(5).integers(0, spec["vocab_size"], (2, 7), dtype=np.int32)
    mask = np.ones((2, 7), bool)
    mask[1, 5:] = False
    return tokens, mask


def language_model(spec: ModelSpec) -> Params:
    """Return the language model's parameters, without those of the action expert."""
    return {path: x for path, x in content.params(spec).items() if path.startswith(LLM) and "_1/" not in path}


def logits(subject: Subject, spec: ModelSpec, changes: Params, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the logits of the real tokens."""
    answer = np.asarray(subject.prompt_logits(spec, content.params(spec) | changes, tokens, mask))
    assert answer.shape == (*tokens.shape, spec["vocab_size"])
    return answer[mask].astype(np.float32)


@contract(source="arXiv:2403.08295; transformers modeling_gemma.py; docs/bugs.md#g9", needs=NEEDS)
@every_shape
def test_has_the_logits_of_the_paper(subject: Subject, sized: Sized) -> None:
    """The logits of a prompt are those of Gemma's paper in float64, whatever the number of layers and heads."""
    spec, (tokens, mask) = sized.model, prompt(sized.model)
    expected = gemma_oracle.prompt_logits(spec, language_model(spec), tokens, mask)
    assert_close(logits(subject, spec, {}, tokens, mask), expected[mask], atol=ATOL)


@contract(source="openpi pi0.py:19, make_attn_mask", needs=NEEDS)
def test_padding_does_not_matter(subject: Subject) -> None:
    """Other tokens as padding change no bit of a real token's logits; other real tokens change them."""
    spec, (tokens, mask) = tiny(), prompt(tiny())
    padded = np.where(mask, tokens, (tokens + 1) % spec["vocab_size"])
    expected = logits(subject, spec, {}, tokens, mask)
    assert_same_bits({"logits": logits(subject, spec, {}, padded, mask)}, {"logits": expected})
    assert_different(logits(subject, spec, {}, np.where(mask, padded[::-1], tokens), mask), expected)


@contract(source="openpi pi0.py:19: the prompt is one block", needs=NEEDS)
def test_tokens_attend_to_later_ones(subject: Subject) -> None:
    """The first token's logits depend on the last one: a prompt is read in both directions."""
    spec, (tokens, mask) = tiny(), prompt(tiny())
    other = tokens.copy()
    other[0, -1] = (other[0, -1] + 1) % spec["vocab_size"]
    first, changed = (logits(subject, spec, {}, those, mask)[0] for those in (tokens, other))
    assert np.abs(changed - first).max() > MATTERS_ATOL


@contract(source="openpi pi0.py:108, positions by cumulative sum", needs=NEEDS)
def test_padding_may_lie_anywhere(subject: Subject) -> None:
    """Only real tokens have positions: padding at the front or in the middle is the same prompt."""
    spec, (tokens, mask) = tiny(), prompt(tiny())
    expected = logits(subject, spec, {}, tokens, mask)
    for order in ([5, 6, 0, 1, 2, 3, 4], [0, 5, 1, 6, 2, 3, 4]):
        moved, real = (np.stack([array[0], array[1][order]]) for array in (tokens, mask))
        assert_close(logits(subject, spec, {}, moved, real), expected, atol=ATOL)


@contract(source="openpi pi0.py:189: no sample sees another", needs=NEEDS)
def test_prompt_is_read_alone(subject: Subject) -> None:
    """A prompt has the same logits alone as beside another one."""
    spec, (tokens, mask) = tiny(), prompt(tiny())
    together = logits(subject, spec, {}, tokens, mask)
    alone = [logits(subject, spec, {}, tokens[n : n + 1], mask[n : n + 1]) for n in range(2)]
    assert_close(np.concatenate(alone), together, atol=ATOL)


@contract(source="arXiv:2104.09864; transformers #29285: angles in bfloat16", needs=NEEDS)
def test_long_prompt_has_the_logits_of_the_paper(subject: Subject) -> None:
    """At positions of a real prompt with three images, in the hundreds, the logits are those of the paper too."""
    spec = tiny()
    tokens = np.random.default_rng(6).integers(0, spec["vocab_size"], (1, LONG), dtype=np.int32)
    mask = np.ones((1, LONG), bool)
    expected = gemma_oracle.prompt_logits(spec, language_model(spec), tokens, mask)
    assert_close(logits(subject, spec, {}, tokens, mask), expected[mask], atol=ATOL)


@contract(source="docs/bugs.md#a3, #a17, #rule-1", needs=NEEDS)
def test_every_parameter_matters(subject: Subject) -> None:
    """Every layer of every parameter of the language model affects the logits."""
    spec, (tokens, mask) = tiny(), prompt(tiny())
    params = language_model(spec)
    expected, without_effect = logits(subject, spec, {}, tokens, mask), []
    for path, array in params.items():
        for layer in range(len(array)) if "/layers/" in path else [...]:
            changed = array.copy()
            changed[layer] *= 1.5
            actual = logits(subject, spec, {path: changed}, tokens, mask)
            without_effect += [(path, layer)] if np.abs(actual - expected).max() < MATTERS_ATOL else []
    assert without_effect == []


@contract(source="openpi policy_config.py:57; docs/bugs.md#b7", needs=NEEDS)
def test_bfloat16_is_near_float32(subject: Subject) -> None:
    """A model that computes in bfloat16, from float32 or bfloat16 parameters, has float32's logits within a recorded
    bound."""
    spec, (tokens, mask) = tiny(), prompt(tiny())
    params = content.params(spec)
    expected = logits(subject, spec, {}, tokens, mask)
    for weights in (params, {path: x.astype(ml_dtypes.bfloat16) for path, x in params.items()}):
        actual = logits(subject, {**spec, "dtype": "bfloat16"}, weights, tokens, mask)
        assert_different(actual, expected)
        assert np.abs(actual - expected).mean() <= BFLOAT16_RTOL * np.abs(expected).mean()
