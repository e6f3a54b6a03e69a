"""Open a checkpoint of any layout as a source of parameters under openpi's names."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np

from pi0_compat.errors import LoadError
from pi0_compat.layouts.gemma_flax import open_gemma
from pi0_compat.layouts.judged import judge_checkpoint
from pi0_compat.layouts.layout import Detected, Layout
from pi0_compat.layouts.orbax.completeness import require_open
from pi0_compat.layouts.orbax.metadata import read_metadata
from pi0_compat.layouts.orbax.read_stream import StoredParameters
from pi0_compat.layouts.paligemma_npz import open_npz
from pi0_compat.layouts.sizes import model_of
from pi0_compat.layouts.torch.hugging_face import open_hugging_face
from pi0_compat.layouts.torch.merged import MergedTensors
from pi0_compat.layouts.torch.not_weights import require_weights
from pi0_compat.layouts.torch.openpi import open_pytorch
from pi0_compat.layouts.torch.peft_reading import PeftAdapters
from pi0_compat.layouts.torch.safetensors_folder import recorded_beside, tensors_of
from pi0_compat.layouts.torch.sizes import torch_sizes
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.storage.stream import Source


@contextmanager
def open_parameters(checkpoint: Detected, model: Pi0Spec | None = None) -> Iterator[Source]:
    """Open a checkpoint under openpi's names: shapes and dtypes at once, arrays one at a time or in slabs.

    Args:
      checkpoint: what ``detect`` returned.
      model: the model that the checkpoint is of. PyTorch's tensors do not show the size of a head; None looks it up in
        ``config.json`` or among the named variants.

    Yields:
      The source. A tensor that no parameter is made of has its own name.

    Raises:
      CheckpointError: the checkpoint cannot be read.
      LoadError: the checkpoint is not of the model, or holds no parameters of a model; PEFT's adapters need a model.
    """
    if checkpoint.layout in (Layout.OPENPI, Layout.GEMMA_FLAX):
        require_open(checkpoint.path)
    with _opened(checkpoint, model) as source:
        yield source


def open_merged(
    base: Detected, adapter: Path, model: Pi0Spec | None = None, dtype: np.dtype | None = None
) -> tuple[Source, dict[str, float]]:
    """Open a base in PyTorch's names with a PEFT adapter merged into its weights.

    Args:
      base: in openpi's PyTorch layout, or a policy of lerobot's.
      adapter: the folder of the adapter.
      model: as for ``open_parameters``.
      dtype: of the merged weights; None keeps that of the base.

    Returns:
      The source, and name of a merged weight -> the share of its delta that rounding took, complete once all are read.

    Raises:
      CheckpointError: a file cannot be read.
      LoadError: the base is in another layout or of another model, or the adapter is not for it.
    """
    if base.layout not in (Layout.OPENPI_PYTORCH, Layout.LEROBOT):
        raise LoadError(
            f"{base.path}: the base of a PEFT adapter has to be in PyTorch's names, and this is {base.layout}; convert "
            "it: --to openpi_pytorch"
        )
    merged: list[MergedTensors] = []

    def merge(tensors: Source) -> Source:
        merged.append(MergedTensors(tensors, adapter, dtype))
        return merged[0]

    source = open_pytorch(base.path, model or _model_of_tensors(base.path), merge)
    return source, merged[0].lost


def _opened(checkpoint: Detected, model: Pi0Spec | None) -> AbstractContextManager[Source]:
    match checkpoint.layout:
        case Layout.OPENPI:
            return nullcontext(StoredParameters(read_metadata(checkpoint.path)))
        case Layout.PALIGEMMA_NPZ:
            return open_npz(checkpoint.path)
        case Layout.GEMMA_FLAX:
            return nullcontext(open_gemma(checkpoint.path))
        case Layout.OPENPI_PYTORCH | Layout.LEROBOT:
            return nullcontext(open_pytorch(checkpoint.path, model or _model_of_tensors(checkpoint.path)))
        case Layout.HUGGING_FACE:
            return open_hugging_face(checkpoint.path, model or _model_of_tensors(checkpoint.path))
        case Layout.PEFT if model:
            return nullcontext(PeftAdapters(checkpoint.path, model))
        case Layout.PEFT:
            raise LoadError(
                f"{checkpoint.path}: PEFT's adapters alone, whose shapes do not show the heads and the depth of their "
                "model; name it: --config or --config-file, or attach them to their base: attach --to BASE"
            )
    if checkpoint.layout is Layout.UNKNOWN:
        judge_checkpoint(checkpoint).verdict.require_known(checkpoint.path)
    raise LoadError(
        f"{checkpoint.path}: the state of a training, which holds no parameters of a model; pass the params folder "
        "beside it"
    )


def _model_of_tensors(path: Path) -> Pi0Spec:
    tensors = tensors_of(path)
    require_weights(path, tensors, recorded_beside(path))
    return model_of(torch_sizes(tensors, recorded_beside(path)), {}, path)
