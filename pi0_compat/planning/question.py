"""What is asked of the compiler, as plain data: it is sent to another process, and answers are kept under its key."""

import dataclasses
import hashlib
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import Remat

Purpose = Literal["training", "serving"]

_PACKAGE = Path(__file__).parents[1]
# The source that decides what a program needs, and the packages that compile it.
_SOURCES = (
    *("model/*.py", "training/*.py", "storage/placement.py"),
    *(f"planning/{name}.py" for name in ("assigned", "child", "question", "resident")),
)
_COMPILERS = ("jax", "jaxlib", "flax", "optax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """Describe one program and the number of devices that it runs on.

    Attributes:
      config: the name of a training config, or a model.
      purpose: ``training``: a step; ``serving``: sampling actions for a batch.
      batch: samples on all devices together.
      devices: devices that state and batch are spread over (FSDP); 1 has everything on one.
      lora: whether to give the model adapters of openpi's ranks (True) or take them away (False); None leaves it.
      remat: what training computes a second time; None leaves it.
      frozen_dtype: the dtype of frozen parameters; None leaves it.
      freeze_vision: whether the image encoder is frozen too.
    """

    config: str | Pi0Spec
    purpose: Purpose = "training"
    batch: int = 1
    devices: int = 1
    lora: bool | None = None
    remat: Remat | None = None
    frozen_dtype: str | None = None
    freeze_vision: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return plain if isinstance(self.config, str) else plain | {"config": self.config.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Question":
        """Return the question that ``to_json`` described."""
        config = data["config"]
        return cls(**{**data, "config": config if isinstance(config, str) else Pi0Spec.from_json(config)})

    @property
    def key(self) -> str:
        """A name for the answer: it changes with the question, this library's source, and the compiler."""
        described = json.dumps([self.to_json(), _source(), _versions()], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()


@cache
def _source() -> str:
    """Return a digest of the source that decides the answer."""
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for file in sorted(_PACKAGE.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _COMPILERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
