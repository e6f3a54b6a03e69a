"""Training steps of transformers' Trainer, on given batches, from the module's own parameters."""

import math
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

Batch = dict[str, torch.Tensor]


def run_steps(module: torch.nn.Module, batches: list[Batch], options: Any) -> dict[str, list[float]]:
    """Run one step per batch, change the module in place, and return losses and gradient norms.

    Raises:
      NotImplementedError: an option asks for what the Trainer does not have.
    """
    for option, offered in (("ema_decay", None), ("frozen_dtype", "float32"), ("shard_above", None)):
        if options[option] != offered:
            raise NotImplementedError(f"the Trainer has no {option} {options[option]!r}")
    if not batches:
        return {"losses": [], "grad_norms": []}
    with tempfile.TemporaryDirectory() as folder:
        trainer = _Steps(
            schedule_of(options),
            model=module,
            args=_arguments(folder, len(batches), options),
            train_dataset=batches,
            data_collator=lambda items: items[0],
        )
        trainer.train()
    norms = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    return {"losses": trainer.losses, "grad_norms": norms}


def schedule_of(options: Any) -> Callable[[int], float]:
    """Return the share of the peak learning rate at a step: a linear warmup, then half a cosine."""
    schedule = options["optimizer"]["schedule"]
    warmup, decay = schedule["warmup_steps"], schedule["decay_steps"]
    least = schedule["decay_lr"] / schedule["peak_lr"] if schedule["peak_lr"] else 0.0

    def share(step: int) -> float:
        if step < warmup:
            return 1 / (warmup + 1) + step / warmup * (1 - 1 / (warmup + 1))
        done = min((step - warmup) / (decay - warmup), 1.0)
        return least + (1 - least) * (1 + math.cos(math.pi * done)) / 2

    return share


def _arguments(folder: str, steps: int, options: Any) -> TrainingArguments:
    optimizer = options["optimizer"]
    return TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
        learning_rate=optimizer["schedule"]["peak_lr"],
        adam_beta1=optimizer["b1"],
        adam_beta2=optimizer["b2"],
        adam_epsilon=optimizer["eps"],
        weight_decay=optimizer["weight_decay"],
        max_grad_norm=optimizer["clip"],
        seed=options["seed"],
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=True,
    )


class _Steps(Trainer):
    """A Trainer with the options' schedule, which keeps the loss of each step unrounded."""

    def __init__(self, schedule: Callable[[int], float], **options: Any) -> None:
        super().__init__(**options)
        self._schedule = schedule
        self.losses: list[float] = []

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, self._schedule)
        return self.lr_scheduler

    def compute_loss(self, *args: Any, **options: Any) -> Any:
        loss = super().compute_loss(*args, **options)
        self.losses.append(float(loss.detach()))
        return loss
