"""Sizes of the parts of a pi0 model as frozen data: JSON in, JSON out, every mistake rejected at construction.

The real sizes are those of openpi (``models/gemma.py`` and ``models/siglip.py`` at 15a9616). The tiny ones have
pairwise distinct dimensions and ``num_heads * head_dim != width``, so that a swapped axis is an error and not a wrong
number.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, Self

Family = Literal["pi0", "pi05", "pi0_fast"]
Remat = Literal["layers", "cheap"]
EXPERTS = ("paligemma", "action_expert")
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")


def _is_needed(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """A frozen record that converts to and from plain JSON data, nested records included."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data, for ``json.dump``."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the record that ``to_json`` described; unknown and missing keys are rejected by name."""
        if not isinstance(data, Mapping):
            raise ValueError(f"{cls.__name__}: expected an object with fields by name, found {data!r:.80}")
        names = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(data) - names):
            raise ValueError(f"{cls.__name__}: unknown keys {unknown}; known ones are {sorted(names)}")
        if lost := sorted(
            field.name for field in dataclasses.fields(cls) if _is_needed(field) and field.name not in data
        ):
            raise TypeError(f"{cls.__name__}: missing keys {lost}")
        return cls(**data)

    def _parse(self, name: str, kind: type["Spec"]) -> None:
        """Turn the plain data of a nested record into the record."""
        value = getattr(self, name)
        if isinstance(value, Mapping):
            object.__setattr__(self, name, kind.from_json(value))

    def _require_positive(self, *names: str) -> None:
        """Reject fields that are not positive whole numbers."""
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise ValueError(f"{type(self).__name__}.{name} is {value!r}; expected a positive whole number")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRASpec(Spec):
    """One LoRA adapter (arXiv:2106.09685).

    Attributes:
      rank: columns of ``lora_a`` and rows of ``lora_b``.
      alpha: the numerator of ``scale``.
      rslora: whether ``scale`` is stabilized against the rank (arXiv:2312.03732).
    """

    rank: int
    alpha: float
    rslora: bool = False

    def __post_init__(self) -> None:
        self._require_positive("rank")
        if isinstance(self.alpha, str | bool) or not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"LoRASpec.alpha is {self.alpha!r}; expected a positive finite number")

    @property
    def scale(self) -> float:
        """Return the factor of ``A @ B``: alpha / rank, or alpha / sqrt(rank) with rslora."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpertLoRA(Spec):
    """The adapters of one expert.

    Attributes:
      attn: on its attention einsums; None for none.
      ffn: on its feed-forward matrices; None for none.
    """

    attn: LoRASpec | None = None
    ffn: LoRASpec | None = None

    def __post_init__(self) -> None:
        self._parse("attn", LoRASpec)
        self._parse("ffn", LoRASpec)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GemmaSpec(Spec):
    """One Gemma expert (arXiv:2403.08295).

    Attributes:
      width: numbers in a token's embedding.
      depth: layers.
      mlp_dim: width of the feed-forward.
      num_heads: query heads.
      num_kv_heads: key and value heads; divides ``num_heads``.
      head_dim: width of a head; even, since rotary embeddings rotate pairs.
      lora: its adapters; None without any.
    """

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    lora: ExpertLoRA | None = None

    def __post_init__(self) -> None:
        self._parse("lora", ExpertLoRA)
        self._require_positive("width", "depth", "mlp_dim", "num_heads", "num_kv_heads", "head_dim")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads={self.num_heads} is no multiple of num_kv_heads={self.num_kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} is odd; rotary embeddings rotate pairs")
        # Of the whole projection. Above head_dim a head's own delta has full rank already, but openpi makes such
        # models.
        self._require_low_rank("attn", min(self.width, self.num_heads * self.head_dim))
        self._require_low_rank("ffn", min(self.width, self.mlp_dim))

    @property
    def lora_attn(self) -> LoRASpec | None:
        return self.lora.attn if self.lora else None

    @property
    def lora_ffn(self) -> LoRASpec | None:
        return self.lora.ffn if self.lora else None

    @property
    def has_lora(self) -> bool:
        return bool(self.lora_attn or self.lora_ffn)

    def _require_low_rank(self, site: str, limit: int) -> None:
        """A rank above the smaller dimension of a weight adds parameters and no freedom: surely a mistake."""
        lora = self.lora and getattr(self.lora, site)
        if lora and lora.rank > limit:
            raise ValueError(
                f"lora.{site}.rank={lora.rank} exceeds {limit}, the smaller dimension of the adapted weights"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiglipSpec(Spec):
    """The vision encoder (arXiv:2303.15343): a ViT without pooling whose head projects to PaliGemma's width.

    Attributes:
      width: numbers in a patch's embedding; a multiple of ``num_heads``.
      depth: layers.
      mlp_dim: width of the feed-forward.
      num_heads: attention heads.
      patch_size: pixels along each side of a patch.
    """

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    patch_size: int

    def __post_init__(self) -> None:
        self._require_positive("width", "depth", "mlp_dim", "num_heads", "patch_size")
        if self.width % self.num_heads:
            raise ValueError(f"siglip width={self.width} is no multiple of num_heads={self.num_heads}")


def lora(rank: int, *, alpha: float | None = None) -> ExpertLoRA:
    """Return the same adapter for attention and feed-forward; by default alpha is the rank, as in openpi's variants."""
    spec = LoRASpec(rank=rank, alpha=float(rank if alpha is None else alpha))
    return ExpertLoRA(attn=spec, ffn=spec)
