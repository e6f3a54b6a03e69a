"""Reject tensors that are not the weights of a model: codes of a quantization, its scales, and empty placeholders."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pi0_compat.errors import LoadError
from pi0_compat.layouts.torch.safetensors_file import FLOATS
from pi0_compat.params import Leaf

# Beside the weight of a module: compressed-tensors, fp8, bitsandbytes, GPTQ, AWQ, torchao.
_SCALE = re.compile(
    r"(^|[._])(weight_scale(_inv)?(_2)?|scale_inv|(input|output|activation)_scale|scales|qscales|absmax|nested_absmax|"
    r"quant_map|nested_quant_map|quant_state|qweight|qzeros|g_idx|SCB|weight_format|weight_zero_point|weight_packed)"
    r"([._]|$)"
)
_PLAIN_SCALE = re.compile(r"\.scale$")
_DEQUANTIZE = (
    "pi0 needs the weights in float32, bfloat16 or float16: load the model with the library that quantized it, "
    "dequantize it (in transformers: model.dequantize()), save it, and pass that"
)


def require_weights(path: Path, leaves: Mapping[str, Leaf], recorded: Mapping[str, Any]) -> None:
    """Reject a PyTorch checkpoint whose tensors are not the weights.

    Args:
      path: the file, for messages.
      leaves: name -> shape and dtype of its tensors.
      recorded: its ``config.json``; may be empty.

    Raises:
      LoadError: tensors are empty, are codes, or are scales of codes; the message names one and the way out.
    """
    if empty := sorted(name for name, leaf in leaves.items() if 0 in leaf.shape):
        raise LoadError(
            f"{path}: {len(empty)} of {len(leaves)} tensors hold no values, for example {empty[0]}: "
            f"{leaves[empty[0]]}; training with ZeRO-3 saves such placeholders of weights that it has not gathered: "
            "make the file with DeepSpeed's zero_to_fp32.py, or save with stage3_gather_16bit_weights_on_model_save"
        )
    if scales := scales_among(leaves):
        raise LoadError(
            f"{path}: {len(scales)} tensors are scales of quantized weights, for example {scales[0]}: "
            f"{leaves[scales[0]]}; without them the weights are another model's. {_DEQUANTIZE}"
        )
    # Buffers beside them, as position_ids, are whole numbers by right.
    parameters = {name: leaf for name, leaf in leaves.items() if name.endswith(("weight", "bias"))}
    if codes := sorted(name for name, leaf in parameters.items() if leaf.dtype not in FLOATS):
        raise LoadError(
            f"{path}: {len(codes)} weights are codes of a quantization, for example {codes[0]}: {leaves[codes[0]]}. "
            f"{_DEQUANTIZE}"
        )
    if quantization := recorded.get("quantization_config"):
        method = quantization.get("quant_method") if isinstance(quantization, Mapping) else None
        raise LoadError(
            f"{path}: its config.json has a quantization_config ({method or 'of no named method'}), so its tensors may "
            f"be codes. {_DEQUANTIZE}; if they are the weights already, remove quantization_config"
        )


def scales_among(names: Collection[str]) -> list[str]:
    """Return the names that are of a quantization's scales and tables, sorted."""
    return sorted(
        name
        for name in names
        if _SCALE.search(name) or (_PLAIN_SCALE.search(name) and _PLAIN_SCALE.sub(".weight", name) in names)
    )
