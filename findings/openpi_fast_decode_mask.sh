#!/usr/bin/env bash
# What surprises in openpi's pi0-FAST, sampling: with a masked camera of m tokens, the tokens that it writes attend to that camera, and no
# longer to the first m tokens of images and prompt.
#
# openpi at 15a9616 (2026-06-16), jax 0.5.3, flax 0.10.2. sample_actions (models/pi0_fast.py:259-281) rolls images and
# prompt to the right, as if everything masked were at the end, and lets new tokens see the last prefill_len places of it.
# A masked camera is in the middle: the pass over the prompt (make_attn_mask) hides it, and every token after the first
# sees it again. AlohaInputs (policies/aloha_policy.py:70) masks each missing camera whatever the model is; LiberoInputs
# and DroidInputs mask none for pi0-FAST ("Do not change this for your own dataset").
#
# Seen with two images of the masked camera: the first seven of 12 tokens are the same, and [60, 27, 14, 137, 281] follows
# with one, [200, 27, 14, 165, 99] with the other. The loss, which masks it too, differs by 0 (by 0.023 without a mask).
#
# Usage: bash findings/openpi_fast_decode_mask.sh [PYTHON]      a Python 3.11; 0 if openpi still does it, 1 if not
# OPENPI=DIR takes a checkout that is there in place of a clone.
set -euo pipefail
[[ -z "${OPENPI:-}" ]] || OPENPI=$(realpath "$OPENPI")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [[ -z "${OPENPI:-}" ]]; then
  git clone --quiet https://github.com/Physical-Intelligence/openpi "$work/openpi"
  git -C "$work/openpi" checkout --quiet 15a9616
  OPENPI=$work/openpi
fi
"${1:-python3.11}" -m venv "$work/env"
"$work/env/bin/pip" install --quiet jax==0.5.3 flax==0.10.2 orbax-checkpoint==0.11.13 ml-collections==1.0.0 \
  einops==0.8.1 augmax==0.4.1 beartype==0.19.0 jaxtyping==0.2.36 numpy==1.26.4 treescope==0.1.9
cd "$work"
# jax 0.5.3 reads wrong programs from its compilation cache on the CPU.
unset JAX_COMPILATION_CACHE_DIR
JAX_PLATFORMS=cpu PYTHONPATH=$OPENPI/src "$work/env/bin/python" - <<'PYTHON'
import sys
from types import ModuleType
from unittest import mock

# openpi.models.model imports these for the PyTorch model alone.
for name in ("torch", "torch.nn", "torch.nn.functional", "safetensors", "openpi.models_pytorch"):
    sys.modules[name] = ModuleType(name)
sys.modules["torch"].Tensor = type("Tensor", (), {})
sys.modules["openpi.models_pytorch"].pi0_pytorch = None

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx
from openpi.models import gemma_fast, pi0_fast, siglip
from openpi.models import model as openpi_model

CAMERAS = ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")
GEMMA = {"variant": "tiny", "width": 32, "depth": 2, "mlp_dim": 64, "num_heads": 4, "num_kv_heads": 1, "head_dim": 8}
GEMMA |= {"norm_eps": 1e-6, "vocab_size": 300, "scan": True, "remat_policy": "nothing_saveable"}
VIT = {"width": 16, "depth": 1, "mlp_dim": 32, "num_heads": 2, "patch_size": (14, 14)}

# Sizes alone are replaced: openpi hard-codes them.
mock.patch.object(gemma_fast, "get_config", lambda _: ml_collections.ConfigDict(GEMMA)).start()
mock.patch.object(siglip, "decode_variant", lambda _: VIT).start()
openpi_model.IMAGE_RESOLUTION = openpi_model.preprocess_observation.__kwdefaults__["image_resolution"] = (28, 28)
config = pi0_fast.Pi0FASTConfig(dtype="float32", action_dim=7, action_horizon=5, max_token_len=6)
graphdef, state = nnx.split(config.create(jax.random.key(0)))
leaves, tree = jax.tree.flatten(state)
keys = jax.random.split(jax.random.key(1), len(leaves))
# A fresh token table is zero.
leaves = [0.3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves)]
model = nnx.merge(graphdef, jax.tree.unflatten(tree, leaves))


def observation(image_seed, masked, starts):
    images = {name: jax.random.uniform(jax.random.key(n), (1, 28, 28, 3)) for n, name in enumerate(CAMERAS)}
    images["base_1_rgb"] = jax.random.uniform(jax.random.key(image_seed), (1, 28, 28, 3))
    masks = {name: jnp.array([name != "base_1_rgb" or not masked]) for name in CAMERAS}
    return openpi_model.Observation(
        images=images,
        image_masks=masks,
        state=jnp.zeros((1, 7)),
        tokenized_prompt=jnp.arange(10, 16)[None],
        tokenized_prompt_mask=jnp.ones((1, 6), bool),
        token_ar_mask=jnp.array([starts]),
        token_loss_mask=jnp.array([starts]) == 1,
    )


def tokens(image_seed):
    asked = observation(image_seed, masked=True, starts=[0] * 6)
    return model.sample_actions(jax.random.key(0), asked, max_decoding_steps=12)[0].astype(int).tolist()


def loss(image_seed, masked):
    batch = observation(image_seed, masked, starts=[0, 0, 0, 1, 1, 1])
    return float(model.compute_loss(jax.random.key(0), batch, jnp.zeros((1, 5, 7)))[0])


one, other = tokens(100), tokens(200)
hidden = abs(loss(100, masked=True) - loss(200, masked=True))
shown = abs(loss(100, masked=False) - loss(200, masked=False))
print("tokens with one image of the masked camera:    ", one)
print("tokens with another image of the masked camera:", other)
print(f"the loss differs by {hidden:.2g} if that camera is masked, by {shown:.2g} if it is not")
assert hidden < 1e-6 < shown, "the loss does not tell a masked camera from another: this script is at fault"
assert one[0] == other[0], "the pass over the prompt sees the masked camera too"
sys.exit(0 if one != other else "openpi's new tokens no longer see a masked camera")
PYTHON
