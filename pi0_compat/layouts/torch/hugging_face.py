"""Read and write PaliGemma as Hugging Face's transformers stores it, as openpi's stacked parameters.

Tensors lie as in openpi's PyTorch layout (``rules``), and both sides store the same values: an RMSNorm multiplies by
one plus its weight, rotary embeddings take the same halves of a head. The names changed with transformers 4.52 and 5.6
(docs/bugs.md#f6). Each tensor is copied from the file to its place in a stack; no other copy is made.

The names written are those that every version reads. The output layer is tied to the embedding and is not written
again. The embedding is written with its own rows: the two that transformers adds, and those that round them up, are
noise that no token looks up.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from pi0_compat.errors import LoadError
from pi0_compat.layouts.torch.not_weights import require_weights
from pi0_compat.layouts.torch.rules import Rule, gemma_rules, siglip_rules
from pi0_compat.layouts.torch.safetensors_folder import open_tensors, recorded_beside
from pi0_compat.layouts.torch.tied import padded, tied_apart
from pi0_compat.layouts.torch.write_folder import dtype_name, write_folder
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import GemmaSpec, SiglipSpec
from pi0_compat.params import Leaf
from pi0_compat.paths import TOKEN_TABLE, TORCH_ROOT, looks_like_an_adapter
from pi0_compat.storage.stream import Source, cut
from pi0_compat.text import shorten

_LAYER = re.compile(r"(0|[1-9]\d{0,3})\.")
_FLOATS = [np.dtype(x) for x in (ml_dtypes.bfloat16, np.float16, np.float32, np.float64)]


class Naming(NamedTuple):
    """Where the modules are, and the name of the output layer, which is tied to the embedding."""

    vision: str
    projector: str
    language: str
    head: str


NAMINGS = {
    "transformers before 4.52": Naming(
        vision="vision_tower.vision_model",
        projector="multi_modal_projector.linear",
        language="language_model.model",
        head="language_model.lm_head.weight",
    ),
    "transformers 4.52 to 5.5": Naming(
        vision="model.vision_tower.vision_model",
        projector="model.multi_modal_projector.linear",
        language="model.language_model",
        head="lm_head.weight",
    ),
    "transformers from 5.6": Naming(
        vision="model.vision_tower",
        projector="model.multi_modal_projector.linear",
        language="model.language_model",
        head="lm_head.weight",
    ),
    # What 5.23 saves of a model that was made of a config, and not of a release (docs/bugs.md#f6).
    "transformers 5.23, of a fresh model": Naming(
        vision="vision_tower",
        projector="multi_modal_projector.linear",
        language="language_model.model",
        head="language_model.lm_head.weight",
    ),
}
# The names of the public releases, which later versions translate.
_WRITTEN = NAMINGS["transformers before 4.52"]


class HuggingFacePaliGemma(Source):
    """An open PaliGemma of Hugging Face's under openpi's names: shapes at once, arrays one at a time.

    Attributes:
      path: the file, or the index of the shards.
      leaves: shape and dtype of every parameter; a tensor that PaliGemma does not have keeps its own name.
    """

    def __init__(self, tensors: Source, model: Pi0Spec) -> None:
        self.path = tensors.path
        self._tensors = tensors
        naming, self._rules = _recognize(tensors, model)
        _require_tensors(tensors, self._rules)
        self._shapes = {path: leaf.shape for path, leaf in model.param_spec().items()}
        self._embedding, copy = _embedding(tensors, naming)
        if copy and (words := tied_apart(tensors, self._embedding, copy)):
            raise LoadError(f"{self.path}: {words}")
        self._rows = _rows(tensors.leaves[self._embedding], model)
        self.leaves: dict[str, Leaf] = dict(sorted(self._describe().items()))

    def read(self, path: str, dtype: np.dtype | None = None) -> np.ndarray:
        """Return a parameter in the stored dtype, or cast."""
        if path == TOKEN_TABLE:
            return self._read_embedding(dtype)
        rule, leaf = self._rules[path], self.leaves[path]
        array = np.empty(leaf.shape, dtype or leaf.dtype)
        for name, index in rule.pieces():
            rule.place(self._tensors.read(name), array[index])
        return array

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield a parameter, assembled from its tensors a few layers at a time."""
        if path == TOKEN_TABLE:
            return cut(self._embedding_in_the_file())
        if path == self._added_rows:
            return cut(self._tensors.read(self._embedding)[self._rows :])
        if path not in self._rules:
            return cut(self._tensors.read(path))
        return self._rules[path].slabs(self.leaves[path], self._tensors.read)

    def _read_embedding(self, dtype: np.dtype | None) -> np.ndarray:
        array = self._embedding_in_the_file()
        return array.astype(dtype or array.dtype)

    def _embedding_in_the_file(self) -> np.ndarray:
        return self._tensors.read(self._embedding)[: self._rows]

    @property
    def _added_rows(self) -> str:
        return f"{self._embedding}[{self._rows}:]"

    def _describe(self) -> dict[str, Leaf]:
        """Return all parameters, then what is dropped: tensors that are none, and rows that transformers added."""
        if unlike := [text for rule in self._rules.values() if (text := self._unlike(rule))]:
            raise LoadError(f"{self.path}: " + "\n".join(unlike))
        leaves = {path: self._leaf(rule) for path, rule in self._rules.items()}
        stored = self._tensors.leaves[self._embedding]
        leaves[TOKEN_TABLE] = Leaf((self._rows, *stored.shape[1:]), stored.dtype)
        if self._rows < stored.shape[0]:
            added = (stored.shape[0] - self._rows, *stored.shape[1:])
            leaves[self._added_rows] = Leaf(added, stored.dtype)
        used = _names(self._rules) | {self._embedding}
        return leaves | {name: leaf for name, leaf in self._tensors.leaves.items() if name not in used}

    def _unlike(self, rule: Rule) -> str:
        """Return the tensors that make a parameter, as text, if their shapes differ; empty if they are alike."""
        found = {name: self._tensors.leaves[name] for name, _ in rule.pieces()}
        shapes = {leaf.shape for leaf in found.values()}
        if len(shapes) > 1:
            lines = [f"  ~ {name}: found {leaf}" for name, leaf in found.items()]
            return "\n".join([f"the tensors of {rule.path} have different shapes", *shorten(lines)])
        return ""

    def _leaf(self, rule: Rule) -> Leaf:
        """Return the shape and dtype of the parameter that the tensors of a rule make; they are alike."""
        found = [self._tensors.leaves[name] for name, _ in rule.pieces()]
        stack = (() if rule.depth is None else (rule.depth,)) + ((len(rule.names),) if len(rule.names) > 1 else ())
        tensor = found[0].shape
        # A tensor without whole heads keeps its shape, to be rejected with the numbers in the file.
        piece = rule.parted(tensor, rule.piece_shape(self._shapes[rule.path])) or tensor
        return Leaf((*stack, *piece), _common({leaf.dtype for leaf in found}))


@contextmanager
def open_hugging_face(path: Path, model: Pi0Spec) -> Iterator[HuggingFacePaliGemma]:
    """Open a PaliGemma of Hugging Face's.

    Args:
      path: a safetensors file, an index of shards, or a folder that has one of them.
      model: shows what the file does not, the size of a head and whether there are as many key/value as query heads.

    Raises:
      CheckpointError: there is no safetensors file or folder, or a damaged one.
      LoadError: the tensors are not those of PaliGemma; a tensor or a layer is missing; layers have different shapes;
        or there are adapters.
    """
    with open_tensors(path) as tensors:
        require_weights(tensors.path, tensors.leaves, recorded_beside(path))
        yield HuggingFacePaliGemma(tensors, model)


def _recognize(tensors: Source, model: Pi0Spec) -> tuple[Naming, dict[str, Rule]]:
    """Return the naming under which most tensors are found, and the rule of every parameter but the embedding."""
    found = tensors.leaves
    if adapters := sorted(filter(looks_like_an_adapter, found)):
        raise LoadError(
            f"{tensors.path}: {len(adapters)} tensors are adapters, for example {adapters[0]}; their fine-tuning would "
            "be lost: merge them into the weights first, with PEFT's merge_and_unload"
        )
    naming, rules = max(candidates(found, model), key=lambda candidate: len(_names(candidate[1]) & found.keys()))
    if not _names(rules) & found.keys():
        some = ", ".join(sorted(found)[:3]) or "none"
        raise LoadError(
            f"{tensors.path}: not one of its {len(found)} tensors is where Hugging Face's PaliGemma has it"
            f"{_likeness(found)}; expected for example model.language_model.norm.weight, found {some}"
        )
    return naming, rules


def candidates(names: Collection[str], model: Pi0Spec) -> list[tuple[Naming, dict[str, Rule]]]:
    """Return every naming, with the rules of all parameters but the embedding.

    Args:
      names: of a checkpoint's tensors, which show the numbers of layers.
      model: whose parameters; its depths do not count.
    """
    return [(naming, _rules(names, naming, model)) for naming in NAMINGS.values()]


def _likeness(names: Mapping[str, Leaf]) -> str:
    """Say what else the tensors look like."""
    if any(f"{TORCH_ROOT}." in name for name in names):
        return ", but where openpi's PyTorch layout has it: use OpenpiPyTorchWeightLoader"
    if "model.norm.weight" in names:
        return ", but where a language model without images has it"
    return ""


def _rules(found: Collection[str], naming: Naming, model: Pi0Spec) -> dict[str, Rule]:
    """Return where every parameter is under a naming, for as many layers as the file has."""
    rules = siglip_rules(model.siglip, "PaliGemma/img", naming.vision, naming.projector)
    rules = [_of_depth(rule, _depth(found, f"{naming.vision}.encoder.layers.")) for rule in rules]
    language = gemma_rules(model.paligemma, "PaliGemma/llm", naming.language)
    rules += [_of_depth(rule, _depth(found, f"{naming.language}.layers.")) for rule in language]
    return {rule.path: rule for rule in rules}


def _of_depth(rule: Rule, depth: int) -> Rule:
    return rule if rule.depth is None else rule._replace(depth=depth)


def _depth(names: Collection[str], prefix: str) -> int:
    """Return one more than the number of the last layer, and at least one."""
    numbers = (_LAYER.match(name.removeprefix(prefix)) for name in names if name.startswith(prefix))
    return max((int(number[1]) for number in numbers if number), default=0) + 1


def _names(rules: Mapping[str, Rule]) -> set[str]:
    return {name for rule in rules.values() for name, _ in rule.pieces()}


def _require_tensors(tensors: Source, rules: Mapping[str, Rule]) -> None:
    missing = {name: path for path, rule in rules.items() for name, _ in rule.pieces() if name not in tensors.leaves}
    if missing:
        lines = [f"  - {name} (of {path}): expected, found nothing" for name, path in missing.items()]
        text = "\n".join(shorten(lines))
        raise LoadError(f"{tensors.path}: {len(missing)} tensors of PaliGemma are missing\n{text}")


def _embedding(tensors: Source, naming: Naming) -> tuple[str, str | None]:
    """Return the name of the tensor that is the embedding, and its tied copy's if there is one."""
    name = f"{naming.language}.embed_tokens.weight"
    names = [tied for tied in (name, naming.head) if tied in tensors.leaves]
    if not names:
        raise LoadError(f"{tensors.path}: {name} (of {TOKEN_TABLE}) is missing, and {naming.head}, tied to it, is too")
    if strange := [name for name in names if len(tensors.leaves[name].shape) != 2]:
        found = tensors.leaves[strange[0]]
        raise LoadError(f"{tensors.path}: {strange[0]} (of {TOKEN_TABLE}): expected a matrix of floats, found {found}")
    return names[0], names[1] if len(names) > 1 else None


def _rows(embedding: Leaf, model: Pi0Spec) -> int:
    """Return how many rows of the embedding are tokens, and not noise that transformers added."""
    wanted, found = model.vocab_size, embedding.shape[0] if embedding.shape else 0
    return wanted if found == padded(wanted) else found


def _common(dtypes: set[np.dtype]) -> np.dtype:
    """Return the dtype of a stack of layers with these dtypes; a dtype that is no float is kept, to be rejected."""
    codes = [dtype for dtype in dtypes if dtype not in _FLOATS]
    if codes or len(dtypes) == 1:
        return min(codes or dtypes, key=str)
    return max(*dtypes, np.dtype(np.float32), key=lambda dtype: dtype.itemsize)


def write_hugging_face(source: Source, folder: Path, model: Pi0Spec, max_shard_bytes: int | None = None) -> None:
    """Write the PaliGemma part of a model as a folder, in shards if one file would be larger than that."""
    config = _config(model, dtype_name(source.leaves.values()))
    write_folder(folder, source, _written_rules(model), config, max_shard_bytes=max_shard_bytes)


def _written_rules(model: Pi0Spec) -> list[Rule]:
    rules = siglip_rules(model.siglip, "PaliGemma/img", _WRITTEN.vision, _WRITTEN.projector)
    rules.append(Rule(TOKEN_TABLE, "VD->VD", (f"{_WRITTEN.language}.embed_tokens.weight",)))
    return rules + gemma_rules(model.paligemma, "PaliGemma/llm", _WRITTEN.language)


def _config(model: Pi0Spec, dtype: str) -> dict[str, Any]:
    """Return ``config.json`` in the terms of the public releases."""
    return {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "model_type": "paligemma",
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "hidden_size": model.paligemma.width,
        # The first token after the vocabulary: <image>.
        "image_token_index": model.vocab_size,
        "projection_dim": model.paligemma.width,
        "text_config": _text_config(model.paligemma, model.vocab_size),
        "vision_config": _vision_config(model.siglip, model),
        "torch_dtype": dtype if dtype != "mixed" else "float32",
    }


def _text_config(gemma: GemmaSpec, vocab_size: int) -> dict[str, Any]:
    return {
        "model_type": "gemma",
        "vocab_size": vocab_size,
        "hidden_size": gemma.width,
        "num_hidden_layers": gemma.depth,
        "intermediate_size": gemma.mlp_dim,
        "num_attention_heads": gemma.num_heads,
        "num_key_value_heads": gemma.num_kv_heads,
        "head_dim": gemma.head_dim,
    }


def _vision_config(siglip: SiglipSpec, model: Pi0Spec) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "image_size": model.image_size,
        "patch_size": siglip.patch_size,
        "hidden_size": siglip.width,
        "num_hidden_layers": siglip.depth,
        "intermediate_size": siglip.mlp_dim,
        "num_attention_heads": siglip.num_heads,
        "projection_dim": model.paligemma.width,
        "vision_use_head": False,
    }
