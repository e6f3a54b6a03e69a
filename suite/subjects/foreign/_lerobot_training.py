"""Training steps with lerobot's ``update_policy``, its optimizer and its schedule."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator
from lerobot.optim.optimizers import AdamWConfig
from lerobot.optim.schedulers import CosineDecayWithWarmupSchedulerConfig
from lerobot.scripts.lerobot_train import update_policy
from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS
from lerobot.utils.logging_utils import AverageMeter, MetricsTracker
from peft import PeftModel

from ._tensors import to_torch

METRICS = ("loss", "grad_norm", "lr", "update_s")


def run_steps(policy: Any, inputs: list[tuple[Any, ...]], actions: list[torch.Tensor], options: Any) -> dict[str, Any]:
    """Run one step per batch, change the policy in place, and return what ``train`` returns, without the parameters.

    Args:
      inputs: the arguments of the policy's core for each batch.

    Raises:
      NotImplementedError: an option asks for what lerobot's training does not have.
    """
    for option, offered in (("ema_decay", None), ("frozen_dtype", "float32"), ("shard_above", None)):
        if options[option] != offered:
            raise NotImplementedError(f"lerobot's training has no {option} {options[option]!r}")
    torch.manual_seed(options["seed"])
    settings, accelerator = options["optimizer"], Accelerator(cpu=True)
    optimizer = _optimizer(policy, settings)
    # lerobot shortens a schedule that is longer than the training.
    steps = settings["schedule"]["decay_steps"]
    schedule = CosineDecayWithWarmupSchedulerConfig(**_schedule(settings)).build(optimizer, steps)
    found: dict[str, list[float]] = {"losses": [], "grad_norms": []}
    for n, (arguments, of_batch) in enumerate(zip(inputs, actions, strict=True)):
        draws = [None if (draw := options.get(name)) is None else to_torch(draw[n]) for name in ("noise", "time")]
        tracker = MetricsTracker(1, 1, 1, {name: AverageMeter(name) for name in METRICS})
        with _fed(policy, arguments, of_batch, *draws) as batch:
            tracker, _ = update_policy(tracker, policy, batch, optimizer, settings["clip"], accelerator, schedule)
        found["losses"].append(tracker.loss.val)
        found["grad_norms"].append(tracker.grad_norm.val)
    return dict.fromkeys(("averaged", "compiled", "optimizer_bytes", "device_bytes")) | found


def _optimizer(policy: Any, settings: Any) -> torch.optim.Optimizer:
    # A frozen parameter has no gradient, so the optimizer leaves it as it is.
    adamw = AdamWConfig(
        lr=settings["schedule"]["peak_lr"],
        betas=(settings["b1"], settings["b2"]),
        eps=settings["eps"],
        weight_decay=settings["weight_decay"],
        grad_clip_norm=settings["clip"],
    )
    return adamw.build(policy.get_optim_params())


def _schedule(settings: Any) -> dict[str, Any]:
    schedule = settings["schedule"]
    return {
        "num_warmup_steps": schedule["warmup_steps"],
        "num_decay_steps": schedule["decay_steps"],
        # Its division by the peak fails for a rate of zero.
        "peak_lr": schedule["peak_lr"] or math.inf,
        "decay_lr": schedule["decay_lr"],
    }


@contextmanager
def _fed(policy: Any, arguments: tuple[Any, ...], actions: torch.Tensor, noise: Any, time: Any) -> Iterator[Any]:
    """Yield a batch for the policy; in the body, its core gets images in [-1, 1] as they are, and a mask per sample."""
    inner = policy.get_base_model() if isinstance(policy, PeftModel) else policy
    images, masks, tokens, token_masks, *state = arguments
    given: dict[str, Any] = {"_preprocess_images": lambda _: (images, masks), "prepare_action": lambda _: actions}
    given |= {"prepare_state": lambda _: state[0]} if state else {}
    with ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(inner, **given))
        for name, draw in (("sample_noise", noise), ("sample_time", time)):
            if draw is not None:
                stack.enter_context(mock.patch.object(inner.model, name, return_value=draw))
        yield {OBS_LANGUAGE_TOKENS: tokens, OBS_LANGUAGE_ATTENTION_MASK: token_masks}
