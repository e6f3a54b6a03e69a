"""Any checkpoint as a source of parameters under openpi's names, whatever its layout."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from pi0_compat.errors import LoadError
from pi0_compat.layouts.gemma_flax import open_gemma
from pi0_compat.layouts.layout import Detected, Layout
from pi0_compat.layouts.orbax.completeness import require_open
from pi0_compat.layouts.orbax.metadata import read_metadata
from pi0_compat.layouts.orbax.read_stream import StoredParameters
from pi0_compat.layouts.paligemma_npz import open_npz
from pi0_compat.layouts.sizes import model_of
from pi0_compat.layouts.torch.hugging_face import open_hugging_face
from pi0_compat.layouts.torch.openpi import open_pytorch
from pi0_compat.layouts.torch.safetensors_folder import recorded_beside, tensors_of
from pi0_compat.layouts.torch.sizes import torch_sizes
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.storage.stream import Source


@contextmanager
def open_parameters(found: Detected, model: Pi0Spec | None = None) -> Iterator[Source]:
    """Open a checkpoint under openpi's names: shapes and dtypes at once, arrays one at a time or in slabs.

    Args:
      found: the checkpoint and its layout.
      model: its sizes, where PyTorch's tensors do not tell how long a head is; without it they are looked up.

    Raises:
      CheckpointError: it cannot be read.
      LoadError: it is not of the model, or holds no parameters of a model, as adapters alone do.
    """
    if found.layout in (Layout.OPENPI, Layout.GEMMA_FLAX):
        require_open(found.path)
    with _opened(found, model) as source:
        yield source


def _opened(found: Detected, model: Pi0Spec | None) -> AbstractContextManager[Source]:
    match found.layout:
        case Layout.OPENPI:
            return nullcontext(StoredParameters(read_metadata(found.path)))
        case Layout.PALIGEMMA_NPZ:
            return open_npz(found.path)
        case Layout.GEMMA_FLAX:
            return nullcontext(open_gemma(found.path))
        case Layout.OPENPI_PYTORCH:
            return nullcontext(open_pytorch(found.path, model or _model_of_tensors(found.path)))
        case Layout.HUGGING_FACE:
            return open_hugging_face(found.path, model or _model_of_tensors(found.path))
    what = {Layout.TRAIN_STATE: "the state of a training", Layout.PEFT: "PEFT's adapters alone"}[found.layout]
    raise LoadError(f"{found.path}: {what}, which holds no parameters of a model; {_ADVICE[found.layout]}")


_ADVICE: dict[Layout, str] = {
    Layout.TRAIN_STATE: "pass the params folder beside it",
    Layout.PEFT: "attach them to a base first",
}


def _model_of_tensors(path: Path) -> Pi0Spec:
    tensors = tensors_of(path)
    return model_of(torch_sizes(tensors, recorded_beside(path)), {}, path)
