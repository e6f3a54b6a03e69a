"""Correct variants of the reference: other ways to run the same mathematics. No contract may fail for one of them.

``reference:bf16`` computes in bfloat16, whatever the model's spec says. ``reference:eager`` runs forward passes one
operation at a time (not training, which would take minutes per case). ``reference:unrolled`` unrolls the loop over
layers. ``reference:kept`` keeps matrix products for the backward pass instead of recomputing them.
``reference:sharded8`` spreads parameters over eight devices.
"""

from typing import NamedTuple

from suite.subjects.patches.patched import Patch

# Runs before anything asks jax for its devices; ``elsewhere`` sets their number itself.
_EIGHT_DEVICES = """import os
if "device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", 8)
"""
_DRAW = "_draw = jax.jit(draw_noise_and_time, static_argnums=1)\n"
_EAGER = """
def _eager(run, **_):
    def call(*args):
        with jax.disable_jit():
            return run(*args)
    return call
"""
_FORWARD = ("_compiled_loss(Pi0Config.from_json(model))", "sample", "embed")


class Variant(NamedTuple):
    """The patches of a variant, and the traits that it lacks."""

    patches: tuple[Patch, ...]
    lacks: frozenset[str] = frozenset()


def _harness(old: str, new: str) -> Patch:
    return Patch("../subjects/reference.py", old, new)


def _uncompiled(function: str) -> Patch:
    return _harness(f"jax.jit({function}", f"_eager({function}")


VARIANTS: dict[str, Variant] = {
    "bf16": Variant(
        (
            Patch(
                "model/pi0.py",
                "        self.spec = spec\n",
                '        self.spec = spec = dataclasses.replace(spec, dtype="bfloat16")\n',
            ),
        ),
        lacks=frozenset({"float32"}),
    ),
    "eager": Variant(
        (
            _harness(_DRAW, f"{_DRAW}{_EAGER}"),
            _uncompiled("\n        lambda params, observation, actions, noise, time:"),
            _uncompiled("\n        lambda params, observation, noise:"),
            _uncompiled("\n        lambda params, observation: config.merge(params).embed_prefix"),
        )
    ),
    "unrolled": Variant(
        (
            Patch(
                "model/gemma.py",
                "jax.lax.scan(body, carry, (state, xs))",
                "jax.lax.scan(body, carry, (state, xs), unroll=True)",
            ),
        )
    ),
    "kept": Variant((Patch("model/specs.py", 'remat: Remat = "layers"', 'remat: Remat = "cheap"'),)),
    "sharded8": Variant(
        (
            _harness('NAME = "reference"\n', f'{_EIGHT_DEVICES}NAME = "reference"\n'),
            _harness(
                "    return None if shard_above is None else sharding.fsdp(_mesh(), min_bytes=shard_above)",
                "    return sharding.fsdp(_mesh(), min_bytes=shard_above or 0)",
            ),
            _harness('_split(batch) if options["shard_above"] is None else sharding', "sharding"),
            *(
                _harness(
                    f"{call}(params, ",
                    f"{call}({{path: sharding.put(x, _placement(None)(x)) for path, x in params.items()}}, ",
                )
                for call in _FORWARD
            ),
        ),
    ),
}
