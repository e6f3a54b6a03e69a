"""openpi's own numbers, from checkpoints that openpi wrote."""

from fixtures.golden_cases import GoldenCase, GoldenTraining
from suite.asserts import assert_close, assert_same_bits, assert_same_paths
from suite.cases import training_options
from suite.contracts.golden_training import assert_reproduces, train_golden
from suite.registry import contract
from suite.subjects.protocol import Subject

LOSS_RTOL = 1e-5
ACTIONS_ATOL = 1e-4
# The reference's tokens are within 2e-6; another LayerNorm epsilon (1e-5) moves them by 8e-5.
TOKENS_ATOL = 2e-5
TRAIN_LOSS_RTOL = 1e-4


@contract(source="openpi pi0.py:189", needs=("restore", "loss", "float32"))
def test_loss(subject: Subject, golden_case: GoldenCase) -> None:
    """From openpi's checkpoint, batch, noise and time the loss is openpi's."""
    case, params = golden_case, subject.restore(str(golden_case.checkpoint), None)
    loss = subject.loss(case.spec, params, case.batch, case.loss_noise, case.loss_time, seed=0)
    assert_close(loss, case.loss, rtol=LOSS_RTOL)


@contract(source="openpi pi0.py:192", needs=("restore", "loss", "openpi_keys", "float32"))
def test_loss_from_the_same_key(subject: Subject, golden_case: GoldenCase) -> None:
    """From the same jax key noise and time, and so the loss, are openpi's."""
    case, params = golden_case, subject.restore(str(golden_case.checkpoint), None)
    loss = subject.loss(case.spec, params, case.batch, None, None, seed=case.seed)
    assert_close(loss, case.loss, rtol=LOSS_RTOL)


@contract(source="openpi pi0.py:217", needs=("restore", "sample_actions", "float32"))
def test_sampled_actions(subject: Subject, golden_case: GoldenCase) -> None:
    """From the same noise the sampled actions are openpi's."""
    case, params = golden_case, subject.restore(str(golden_case.checkpoint), None)
    actions = subject.sample_actions(case.spec, params, case.batch, case.batch["noise"], num_steps=case.num_steps)
    assert_close(actions, case.sampled_actions, atol=ACTIONS_ATOL)


@contract(source="openpi pi0.py:106", needs=("restore", "embed_prefix", "float32"))
def test_prefix_tokens(subject: Subject, golden_case: GoldenCase) -> None:
    """Images and prompt become openpi's tokens."""
    case, params = golden_case, subject.restore(str(golden_case.checkpoint), None)
    assert_close(subject.embed_prefix(case.spec, params, case.batch), case.prefix_tokens, atol=TOKENS_ATOL)


@contract(source="openpi weight_loaders.py:33", needs=("restore", "load", "openpi_orbax", "load_for_inference"))
def test_checkpoint_loads_whole(subject: Subject, golden_case: GoldenCase) -> None:
    """openpi's checkpoint loads whole into its own config, for training and for serving, bit for bit."""
    case, path = golden_case, str(golden_case.checkpoint)
    restored = subject.restore(path, None)
    loaded = subject.load(case.spec, {"kind": "checkpoint", "path": path}, seed=0)
    assert_same_bits(loaded["params"], restored)
    assert_same_bits(subject.load_for_inference(case.spec, path), restored)


@contract(source="openpi train.py:137; suite/decisions/0001", needs=("restore", "train", "lora", "float32"))
def test_training_steps(subject: Subject, golden_case: GoldenCase, golden_training: GoldenTraining) -> None:
    """AdamW steps have openpi's losses, change exactly what openpi's change, and end on openpi's values."""
    case, expected = golden_case, golden_training
    params = subject.restore(str(case.checkpoint), None)
    options = training_options(optimizer=expected.optimizer, noise=expected.noise, time=expected.time)
    runs = train_golden(subject, case, params, options, steps=len(expected.losses))
    assert_close(runs[0]["losses"], expected.losses, rtol=TRAIN_LOSS_RTOL)
    changed = {path for path in params if (runs[0]["params"][path] != params[path]).any()}
    assert_same_paths(changed, expected.changed)
    assert_reproduces(runs, expected.after)
