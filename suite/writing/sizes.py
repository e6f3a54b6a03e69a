"""Models as parameters of a law that needs no more than a part of them."""

import dataclasses

from fixtures.specs import ModelSpec, tiny


@dataclasses.dataclass(frozen=True, eq=False)
class Sized:
    """A model whose sizes matter, not its family: a subject without an action expert is asked too.

    Attributes:
      model: its spec.
      needs: the capabilities that the case needs.
    """

    model: ModelSpec
    needs: tuple[str, ...] = ()


def heads_as_wide_as_the_model() -> ModelSpec:
    """Return a spec with heads x head_dim == width, as at real size; in the other specs they differ."""
    spec = tiny()
    spec["paligemma"]["width"] = spec["paligemma"]["num_heads"] * spec["paligemma"]["head_dim"]
    return spec
