"""pi0-FAST, which writes actions as tokens: openpi's numbers, and what tokens do and do not depend on."""

import re
from pathlib import Path

import numpy as np
import pytest

from fixtures import content, observations
from fixtures.golden_cases import FastGoldenCase, GoldenTraining
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny
from fixtures.writers import openpi
from fixtures.writers.openpi import read_params
from suite.contracts.checkpoints import write_checkpoint
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_close, assert_same_bits, assert_same_paths, refused
from suite.writing.cases import from_checkpoint, training_options

# The reference is within 1e-6.
LOSS_RTOL, LOGITS_ATOL, TOKENS_ATOL, TRAIN_RTOL = 2e-5, 2e-5, 2e-5, 1e-4
# Where a gradient is pure rounding, AdamW decides by the last bit (docs/decisions/0001).
VALUES_ATOL, SHARE_WITHIN_ATOL = 1e-4, 0.99

SPEC = tiny("pi0_fast", lora="both", num_kv_heads=2)
STEPS = 6
# With these numbers the first row ends after four tokens, and the second goes on.
SEED, ENDED = 9, 4
# With these, tokens depend on those that were written before.
WORDY_SEED = 14
EOS = 1
TABLE = "PaliGemma/llm/embedder/input_embedding"
SCALES = {
    TABLE: 0.1,
    "PaliGemma/llm/layers/attn/attn_vec_einsum/w": 3.0,
    "PaliGemma/llm/layers/mlp/linear": 3.0,
}


def varied(seed: int = SEED) -> Params:
    """Return parameters whose likeliest tokens vary."""
    return {path: x * np.float32(SCALES.get(path, 1)) for path, x in content.params(SPEC, seed=seed).items()}


def asked(*, cameras: bool = False) -> Params:
    """Return a batch that asks for tokens; in its second row a camera is masked, unless all cameras are to be there."""
    batch = observations.asked(observations.batch(SPEC))
    there = {name: np.ones_like(x) for name, x in batch.items() if name.startswith("image_mask/")}
    return batch | there if cameras else batch


@contract(source="openpi pi0_fast.py:198", needs=("loss", "float32"))
def test_has_openpis_loss(subject: Subject, fast_golden_case: FastGoldenCase) -> None:
    """The loss is openpi's, one number a sample: the mean over the sample's own tokens, with positions by index."""
    case, params = fast_golden_case, read_params(fast_golden_case.checkpoint)
    assert_close(subject.loss(case.spec, params, case.batch, None, None, seed=0), case.loss, rtol=LOSS_RTOL)


@contract(source="openpi pi0_fast.py:214", needs=("token_logits", "float32"))
def test_has_openpis_logits(subject: Subject, fast_golden_case: FastGoldenCase) -> None:
    """The logits after each token of the prompt are openpi's, a masked camera and padding included."""
    case, params = fast_golden_case, read_params(fast_golden_case.checkpoint)
    assert_close(subject.token_logits(case.spec, params, case.batch), case.logits, atol=LOGITS_ATOL)


@contract(source="openpi pi0_fast.py:160", needs=("embed_prefix", "float32"))
def test_has_openpis_prefix_tokens(subject: Subject, fast_golden_case: FastGoldenCase) -> None:
    """Images and prompt become openpi's tokens, in the order of pi0-FAST's cameras."""
    case, params = fast_golden_case, read_params(fast_golden_case.checkpoint)
    assert_close(subject.embed_prefix(case.spec, params, case.batch), case.prefix_tokens, atol=TOKENS_ATOL)


@contract(source="openpi pi0_fast.py:236, #705", needs=("sample_tokens", "float32"))
def test_writes_openpis_tokens(subject: Subject, fast_golden_case: FastGoldenCase) -> None:
    """The likeliest tokens are openpi's, at openpi's positions, in the row where no camera is masked."""
    case, params = fast_golden_case, read_params(fast_golden_case.checkpoint)
    tokens = subject.sample_tokens(case.spec, params, case.asked, case.num_steps)
    np.testing.assert_array_equal(np.asarray(tokens)[0], case.sampled_tokens[0])


@contract(source="openpi train.py:137", needs=("train", "lora", "head_adapters", "float32"))
def test_takes_openpis_training_steps(
    subject: Subject, fast_golden_case: FastGoldenCase, golden_training: GoldenTraining
) -> None:
    """AdamW's steps have openpi's losses and gradient norms, change what openpi's change, and end on its values."""
    case, expected = fast_golden_case, golden_training
    params = read_params(case.checkpoint)
    options = training_options(optimizer=expected.optimizer)
    run = subject.train(case.spec, params, [case.batch] * len(expected.losses), options)
    assert_close(run["losses"], expected.losses, rtol=TRAIN_RTOL)
    assert_close(run["grad_norms"], expected.grad_norms, rtol=10 * TRAIN_RTOL)
    after = run["params"]
    assert_same_paths({path for path in params if (after[path] != params[path]).any()}, expected.changed)
    within = [np.abs(after[path] - values) <= VALUES_ATOL for path, values in expected.after.items()]
    assert np.concatenate([array.reshape(-1) for array in within]).mean() >= SHARE_WITHIN_ATOL


@contract(
    source="openpi #705: the gap is what checkpoints were served with",
    needs=("sample_tokens", "token_logits", "pi0_fast"),
)
def test_decoding_equals_one_pass(subject: Subject) -> None:
    """Tokens that are written one by one, with a cache, are the likeliest in one pass over all of them, if the first
    stands one position after the next."""
    batch, params = asked(cameras=True), varied(WORDY_SEED)
    tokens = np.asarray(subject.sample_tokens(SPEC, params, batch, STEPS))[:, :4].astype(np.int32)
    whole = {name: array.copy() for name, array in batch.items()}
    prompt = batch["tokenized_prompt_mask"].sum(axis=1)
    for row, n in enumerate(prompt):
        place = slice(n + 1, n + 5)
        whole["tokenized_prompt"][row, place] = tokens[row]
        whole["tokenized_prompt_mask"][row, place] = whole["token_ar_mask"][row, place] = True
    likeliest = np.asarray(subject.token_logits(SPEC, params, whole)).argmax(axis=-1)
    for row, n in enumerate(prompt):
        np.testing.assert_array_equal([likeliest[row, n - 1], *likeliest[row, n + 1 : n + 4]], tokens[row])


@contract(source="openpi pi0_fast.py:288 does not remember it", needs=("sample_tokens", "pi0_fast"))
def test_row_that_ended_stays_ended(subject: Subject) -> None:
    """After the EOS a row has zeros, while the other row of the batch goes on."""
    tokens = np.asarray(subject.sample_tokens(SPEC, varied(), asked(), STEPS))
    assert tokens[0, ENDED - 1] == EOS
    assert not tokens[0, ENDED:].any()
    assert tokens[1].all()


@contract(source="openpi pi0_fast.py:51", needs=("sample_tokens", "pi0_fast"))
@pytest.mark.parametrize("row", [0, 1])
def test_row_alone_is_a_row_of_a_batch(subject: Subject, row: int) -> None:
    """A row alone gets the tokens that it gets in a batch."""
    batch, params = asked(), varied()
    alone = {name: array[row : row + 1] for name, array in batch.items()}
    together = np.asarray(subject.sample_tokens(SPEC, params, batch, STEPS))
    np.testing.assert_array_equal(np.asarray(subject.sample_tokens(SPEC, params, alone, STEPS))[0], together[row])


@contract(source="openpi pi0_fast.py:23", needs=("sample_tokens", "pi0_fast"))
def test_what_is_masked_does_not_matter(subject: Subject) -> None:
    """Another image of a masked camera and other tokens as padding change no token that is written."""
    batch, params = asked(), varied()
    real = batch["tokenized_prompt_mask"]
    other = batch | {"tokenized_prompt": np.where(real, batch["tokenized_prompt"], 3).astype(np.int32)}
    image = other["image/base_1_rgb"] = batch["image/base_1_rgb"].copy()
    image[1] *= -1
    expected = subject.sample_tokens(SPEC, params, batch, STEPS)
    np.testing.assert_array_equal(subject.sample_tokens(SPEC, params, other, STEPS), expected)


@contract(source="openpi gemma_fast.py:120", needs=("token_logits", "pi0_fast"))
def test_decodes_with_the_table_that_was_loaded(subject: Subject) -> None:
    """Where two tokens that are in no prompt swap their rows of the table, they swap their logits."""
    batch, params = observations.batch(SPEC), varied()
    first, second = [token for token in range(SPEC["vocab_size"]) if token not in batch["tokenized_prompt"]][:2]
    table = params[TABLE].copy()
    table[[first, second]] = table[[second, first]]
    before = np.asarray(subject.token_logits(SPEC, params, batch))
    after = np.asarray(subject.token_logits(SPEC, params | {TABLE: table}, batch))
    expected = before.copy()
    expected[..., [first, second]] = before[..., [second, first]]
    assert (expected != before).any()
    assert_close(after, expected, atol=LOGITS_ATOL)


@contract(source="openpi gemma_fast.py:109: there it is zero, and so are all logits", needs=("init", "pi0_fast"))
def test_fresh_token_table_is_not_zero(subject: Subject) -> None:
    """A fresh model's token table is drawn, so a table of zeros means that nothing was loaded."""
    assert (subject.init(tiny("pi0_fast"), 0)[TABLE] != 0).mean() > 0.99


@contract(source="openpi gemma_fast.py:109: a fresh table is zero", needs=("load", "openpi", "pi0_fast"))
def test_zero_token_table_is_mentioned(subject: Subject, tmp_path: Path) -> None:
    """A load warns of a token table of zeros: the model that was saved had loaded nothing."""
    spec = tiny("pi0_fast")
    params = content.params(spec)
    openpi.write(params | {TABLE: np.zeros_like(params[TABLE])}, tmp_path / "params")
    warned = subject.load(spec, from_checkpoint(tmp_path / "params"), seed=0)["warnings"]
    assert [text for text in warned if TABLE in text and "zero" in text]


@contract(source="openpi model.py:330 intersects the trees; openpi #672", needs=("load", "openpi", "pi0_fast"))
@pytest.mark.parametrize("stored", ["pi0", "pi05"])
def test_pi0_is_not_taken_for_a_pi0_fast(subject: Subject, tmp_path: Path, stored: str) -> None:
    """A pi0 has every parameter of a pi0-FAST, and is refused for one; the error has both families."""
    checkpoint = write_checkpoint(tiny(stored), tmp_path / "params")  # type: ignore[arg-type]
    with refused(re.compile(rf"\b{stored}\b"), re.compile(r"\bpi0_fast\b")):
        subject.load(tiny("pi0_fast"), from_checkpoint(checkpoint.path), seed=0)


@contract(source="docs/bugs.md#a5, #a6", needs=("fold", "token_logits", "lora", "pi0_fast"))
def test_folded_model_has_the_same_logits(subject: Subject) -> None:
    """Attention's and the feed-forward's adapters fold into weights that have the same logits, as for a pi0."""
    batch, params = observations.batch(SPEC), dict(content.params(SPEC))
    base: ModelSpec = tiny("pi0_fast", num_kv_heads=2)
    folded = subject.fold(SPEC, params)
    assert_same_bits({TABLE: folded[TABLE]}, {TABLE: params[TABLE]})
    assert_close(subject.token_logits(base, folded, batch), subject.token_logits(SPEC, params, batch), atol=1e-4)
