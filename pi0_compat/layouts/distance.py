"""Count the parameters in which a checkpoint and a model differ, whether or not the checkpoint can be opened as it."""

from collections.abc import Iterable, Mapping

from pi0_compat.layouts.gemma_flax import stacked
from pi0_compat.layouts.layout import Layout
from pi0_compat.layouts.torch.hugging_face import Naming, candidates
from pi0_compat.layouts.torch.openpi import TABLE, TIED_TABLE, rules
from pi0_compat.layouts.torch.rules import Rule, Shape
from pi0_compat.layouts.torch.tied import padded
from pi0_compat.layouts.wholes import stored_name
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.params import Leaf, differences
from pi0_compat.paths import TOKEN_TABLE, UNUSED_HEAD, in_gemma, in_paligemma, is_adapter, unused_in

_PARTS = {Layout.PALIGEMMA_NPZ: in_paligemma, Layout.GEMMA_FLAX: in_gemma}


def parameters_apart(layout: Layout, leaves: Mapping[str, Leaf], model: Pi0Spec) -> int:
    """Return how many parameters are missing, of another shape, or not the model's.

    Args:
      layout: how the checkpoint is stored.
      leaves: shape and dtype of every array, by the names of its layout.
      model: the model to compare with; of a release, the part of it that the release holds.
    """
    found = {stored_name(layout, name): leaf for name, leaf in leaves.items()}
    if layout in (Layout.OPENPI_PYTORCH, Layout.LEROBOT):
        return _from_pytorch(found, model)
    if layout is Layout.HUGGING_FACE:
        return min(_from_hugging_face(found, *named, model) for named in candidates(found, model))
    holds = _PARTS.get(layout)
    own = stacked(found) if layout is Layout.GEMMA_FLAX else found
    idle = unused_in(own)
    wrong = differences(
        {path: leaf for path, leaf in model.param_spec().items() if holds is None or holds(path)},
        {path: leaf for path, leaf in own.items() if path not in idle},
        dtypes=False,
    )
    return len(wrong.missing) + len(wrong.unexpected) + len(wrong.mismatched)


def _from_pytorch(found: Mapping[str, Leaf], model: Pi0Spec) -> int:
    shapes = {name: leaf.shape for name, leaf in found.items() if name not in (UNUSED_HEAD, TIED_TABLE)}
    if TIED_TABLE in found:
        shapes.setdefault(TABLE, found[TIED_TABLE].shape)
    return _apart(rules(model), model, shapes) + sum(map(is_adapter, model.param_spec()))


def _from_hugging_face(found: Mapping[str, Leaf], naming: Naming, known: Mapping[str, Rule], model: Pi0Spec) -> int:
    shapes = {name: leaf.shape for name, leaf in found.items()}
    tables = [shapes.pop(name, None) for name in (f"{naming.language}.embed_tokens.weight", naming.head)]
    vocabulary, width = model.param_spec()[TOKEN_TABLE].shape
    fitting = (None, (vocabulary, width), (padded(vocabulary), width))
    return _apart(known.values(), model, shapes) + any(table not in fitting for table in tables)


def _apart(known: Iterable[Rule], model: Pi0Spec, found: Mapping[str, Shape]) -> int:
    """Return how many parameters are not there in the model's shape, and how many tensors are of none."""
    spec = model.param_spec()
    count, used = 0, set[str]()
    for rule in known:
        shape = spec[rule.path].shape
        own = rule if rule.depth is None else rule._replace(depth=shape[0])
        names = {name for name, _ in own.pieces()}
        # Layers that the model does not have are a difference in the same parameter.
        more = {name for name, _ in rule._replace(depth=2 * (rule.depth or 0)).pieces()} if rule.depth else set()
        expected = own.tensor_shape(shape)
        count += any(found.get(name) != expected for name in names) or bool((more - names) & found.keys())
        used |= names | more
    return count + len(found.keys() - used)
