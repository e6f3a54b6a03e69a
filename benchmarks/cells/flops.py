"""FLOPs of one training sample and of one sampling call, counted from a model's sizes.

A product of t tokens with a matrix of P numbers costs ``2 P t``. Training adds ``2 P t`` for the gradient of its input
where something trainable lies below, and ``2 P t`` for its own where it is trainable. So: ``4 P`` for a frozen matrix
above something trainable, ``6 P`` for a trainable one and for LoRA, ``2 P`` for a frozen one with nothing trainable
below. Attention of T queries to S keys costs ``4 T S heads head_dim`` per layer and twice that again in the backward
pass, masked pairs included. The rule is that of PaLM (arXiv:2204.02311, appendix B), per parameter.

Conventions:

* Only matrix products count. Norms, softmax, biases, the optimizer and the embedding gather are free. pi0 computes no
  logits; pi0-FAST those of every token of its prompt, the last too. Padding and absent cameras are computed, so they
  count.
* All layers of a stack count alike, as a loop over layers runs them, including the gradient of the first layer's input
  where nothing below the stack is trainable, and the ``unread`` share below.
* ``unread``: the loss does not depend on part of PaliGemma's last layer for the prefix (queries, output projection,
  feed-forward; 4 % of pi0's LoRA step). It is part of ``model``, because the model is written that way and MFU is
  compared that way; a program without a loop may skip it, and then does ``unread`` fewer FLOPs. It is not counted for
  pi0-FAST, whose loss reads the last layer's results for the prompt.
* The backward pass through a prefix without trainable parameters counts as zero, though a program may compute it:
  attention mixes the experts, and those gradients are zero.
* ``recompute``: the extra work of a program that keeps only the inputs of layers (``nothing_saveable``, as in openpi)
  and recomputes layers in the backward pass. It is part of HFU, never of MFU.

openpi's pi0 with both LoRA variants, TFLOP per sample: 8.97 as openpi trains it (0.12 of it in LoRA matrices), 7.65
with SigLIP frozen; 12.11 for full fine-tuning.
"""

import dataclasses
import math
from collections.abc import Collection, Iterable

from benchmarks.cells.products import (
    BELOW,
    PREFIX,
    TABLE,
    Product,
    expert_of,
    is_lora,
    joint_attention,
    logits,
    matrix_products,
    part_of,
    tokens,
    vision_attention,
)
from fixtures.specs import ModelSpec, adapted_experts
from fixtures.writers import openpi_layout


@dataclasses.dataclass(frozen=True)
class Flops:
    """FLOPs of the forward pass, the backward pass, and recomputation; ``unread`` is part of the first two."""

    forward: int = 0
    backward: int = 0
    recompute: int = 0
    unread: int = 0

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))

    @property
    def model(self) -> int:
        """The FLOPs the model requires: the numerator of MFU."""
        return self.forward + self.backward

    @property
    def hardware(self) -> int:
        """The FLOPs of a program that recomputes its layers in the backward pass: the numerator of HFU."""
        return self.model + self.recompute


@dataclasses.dataclass(frozen=True)
class Count:
    """FLOPs by group: siglip, paligemma, action_expert, each expert's LoRA, projections, logits, and attention."""

    groups: dict[str, Flops]

    @property
    def total(self) -> Flops:
        """The sum of all groups."""
        return sum(self.groups.values(), start=Flops())

    @property
    def model_flops(self) -> int:
        """FLOPs for MFU, per sample or call."""
        return self.total.model

    @property
    def hardware_flops(self) -> int:
        """FLOPs for HFU, per sample or call. For a program that keeps its activations, use ``model_flops``."""
        return self.total.hardware


def training(spec: ModelSpec, trainable: Collection[str] | None = None) -> Count:
    """Count the FLOPs of one sample of one training step.

    Args:
      spec: the model's sizes, from ``fixtures.specs``.
      trainable: paths of the trained parameters; by default ``trainable_paths(spec)``.

    Raises:
      ValueError: the model does not have one of the paths.
    """
    chosen = _known(spec, trainable)
    trained = {part_of(path) for path in chosen}
    seen = tokens(spec)
    keys = seen.prefix + seen.suffix
    joint = [joint_attention(spec, "paligemma", seen.prefix, keys)]
    joint += [joint_attention(spec, "action_expert", seen.suffix, keys)] if "action_expert" in spec else []
    products = [*matrix_products(spec), vision_attention(spec), *joint]
    return _grouped((product, _step(product, trained, product.path in chosen)) for product in products)


def sampling(spec: ModelSpec, num_steps: int = 10) -> Count:
    """Count the FLOPs of sampling actions for one observation: the prefix once, the suffix in every step (KV cache).

    Of a pi0-FAST, every step writes a token, and all but the last one read it.
    """
    if "action_expert" not in spec:
        return _writing(spec, num_steps)
    seen = tokens(spec)
    attentions = [
        vision_attention(spec),
        joint_attention(spec, "paligemma", seen.prefix, seen.prefix),
        joint_attention(spec, "action_expert", seen.suffix, seen.prefix + seen.suffix),
    ]
    products = [*matrix_products(spec), *attentions]
    times = [1 if product.part in PREFIX else num_steps for product in products]
    return _grouped(
        (product, Flops(forward=n * product.forward, unread=product.unread))
        for product, n in zip(products, times, strict=True)
    )


def _writing(spec: ModelSpec, num_steps: int) -> Count:
    """Count the prefix, and tokens that are written one by one and attend to a cache with room for all of them."""
    seen, again = tokens(spec), num_steps - 1
    prefix = [product for product in matrix_products(spec) if product.path != TABLE]
    of_one_token = [
        (product, Flops(forward=again * (product.forward // seen.prefix)))
        for product in prefix
        if product.part == "paligemma"
    ]
    attention = joint_attention(spec, "paligemma", again, seen.prefix + num_steps + 1)
    once = [*prefix, vision_attention(spec), joint_attention(spec, "paligemma", seen.prefix, seen.prefix)]
    once += [logits(spec, num_steps), attention]
    return _grouped([*((product, Flops(forward=product.forward)) for product in once), *of_one_token])


def tokens_per_sample(spec: ModelSpec) -> int:
    """Count the tokens of one training sample in joint attention: images, prompt, state and actions, with padding."""
    return tokens(spec).prefix + tokens(spec).suffix


def trainable_paths(spec: ModelSpec, *, siglip: bool = True) -> frozenset[str]:
    """Return the parameters that fine-tuning changes by openpi's rule: all, but of an adapted expert only its adapters.

    Args:
      spec: the model.
      siglip: False freezes the image encoder too. openpi's filter, ``.*llm.*``, never does.
    """
    adapted = set(adapted_experts(spec))
    return frozenset(
        path
        for path in openpi_layout.shapes(spec)
        if (is_lora(path) or expert_of(path) not in adapted) and (siglip or not path.startswith("PaliGemma/img/"))
    )


def parameter_counts(spec: ModelSpec, trainable: Collection[str] | None = None) -> dict[str, int]:
    """Count parameters: ``total`` = ``frozen`` + ``trainable``; ``lora`` counts those of adapters."""
    chosen = _known(spec, trainable)
    sizes = {path: math.prod(shape) for path, shape in openpi_layout.shapes(spec).items()}
    total, trained = sum(sizes.values()), sum(sizes[path] for path in chosen)
    lora = sum(size for path, size in sizes.items() if is_lora(path))
    return {"total": total, "frozen": total - trained, "trainable": trained, "lora": lora}


def _known(spec: ModelSpec, trainable: Collection[str] | None) -> frozenset[str]:
    if trainable is None:
        return trainable_paths(spec)
    if unknown := sorted(set(trainable) - set(openpi_layout.shapes(spec))):
        raise ValueError(
            f"trainable: {unknown[0]} and {len(unknown) - 1} more are not parameters of this model; "
            "use the paths of fixtures.writers.openpi_layout.shapes"
        )
    return frozenset(trainable)


def _step(product: Product, trained: Collection[str], trainable: bool) -> Flops:
    """Count forward and backward of a product, given the parts that contain trained parameters."""
    gradient_passes_on = not BELOW[product.part].isdisjoint(trained)
    # Both factors of attention are activations.
    gradients = 2 * gradient_passes_on if product.path is None else gradient_passes_on + trainable
    return Flops(
        forward=product.forward,
        backward=gradients * product.forward,
        recompute=product.forward if gradients and product.recomputed else 0,
        unread=(1 + gradients) * product.unread,
    )


def _grouped(work: Iterable[tuple[Product, Flops]]) -> Count:
    groups: dict[str, Flops] = {}
    for product, flops in work:
        groups[product.group] = groups.get(product.group, Flops()) + flops
    return Count(groups)
