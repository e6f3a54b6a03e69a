"""Typical mistakes in reimplementing the model: every weight loads, but it computes something else."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi/blob/15a9616/src/openpi/models"

FAULTS = (
    Fault(
        id="gate_and_up_swapped",
        story="The two halves of gating_einsum are swapped.",
        evidence="mutation: the first half goes through the gelu, not the second",
        patches=(Patch("model/lora.py", "gate, up = self._apply(", "up, gate = self._apply("),),
        caught_by=("golden.loss",),
    ),
    Fault(
        id="k_and_v_swapped",
        story="The two halves of kv_einsum are swapped.",
        evidence="mutation: the order in a fused projection",
        patches=(
            Patch("model/gemma.py", 'k, v = getattr(self, expert_name("kv', 'v, k = getattr(self, expert_name("kv'),
        ),
        caught_by=("golden.loss",),
    ),
    Fault(
        id="heads_reversed",
        story="The query heads come out of their projection in reverse order.",
        evidence="mutation: the order of heads in a reshape",
        patches=(
            Patch(
                "model/gemma.py",
                'q = getattr(self, expert_name("q_einsum", i))(x)\n',
                'q = getattr(self, expert_name("q_einsum", i))(x)[:, :, ::-1]\n',
            ),
        ),
        caught_by=("golden.loss",),
    ),
    Fault(
        id="embeddings_not_scaled",
        story="Token embeddings are not multiplied by the square root of the width.",
        evidence="mutation: Gemma's embedding scale, which no other tensor reveals",
        patches=(
            Patch("model/gemma.py", "table[tokens] * jnp.sqrt(table.shape[-1]).astype(table.dtype)", "table[tokens]"),
        ),
        caught_by=("golden.prefix_tokens",),
    ),
    Fault(
        id="norm_scale_without_the_one",
        story="RMSNorm multiplies by its scale instead of one plus its scale.",
        evidence="mutation: Llama's convention with Gemma's weights",
        patches=(Patch("model/gemma.py", "_normalize(x) * (1 + self.scale[...])", "_normalize(x) * self.scale[...]"),),
        caught_by=(
            "prompt.has_the_logits_of_the_paper",
            "golden.loss",
        ),
    ),
    Fault(
        id="layer_norm_epsilon_of_torch",
        story="SigLIP's LayerNorms have torch's default epsilon, 1e-5.",
        evidence="mutation: a library's default in place of SigLIP's 1e-6",
        patches=(Patch("model/siglip.py", "LAYER_NORM_EPSILON = 1e-6", "LAYER_NORM_EPSILON = 1e-5"),),
        caught_by=("golden.prefix_tokens",),
    ),
    Fault(
        id="rms_norm_epsilon_of_llama",
        story="RMSNorm has an epsilon of 1e-5.",
        evidence="mutation: Llama's default in place of Gemma's 1e-6",
        patches=(Patch("model/gemma.py", "RMS_EPSILON = 1e-6", "RMS_EPSILON = 1e-5"),),
        caught_by=("golden.loss",),
    ),
    Fault(
        id="exact_gelu_in_gemma",
        story="The feed-forward layer uses the exact gelu, with erf.",
        evidence="mutation: torch's default in place of the tanh approximation",
        patches=(Patch("model/lora.py", "nnx.gelu(gate)", "nnx.gelu(gate, approximate=False)"),),
        caught_by=("golden.loss",),
    ),
    Fault(
        id="exact_gelu_in_siglip",
        story="The image encoder uses the exact gelu, with erf.",
        evidence="mutation: torch's default in place of the tanh approximation",
        patches=(
            Patch("model/siglip.py", "nnx.gelu(self.Dense_0(x))", "nnx.gelu(self.Dense_0(x), approximate=False)"),
        ),
        caught_by=("golden.prefix_tokens",),
    ),
    Fault(
        id="keys_not_rotated",
        story="Queries have rotary positions, but keys have none.",
        evidence="mutation: one of two calls",
        patches=(Patch("model/gemma.py", "        k = rotate(k, positions)\n", ""),),
        caught_by=(
            "prompt.has_the_logits_of_the_paper",
            "golden.loss",
        ),
    ),
    Fault(
        id="rotary_pairs_are_neighbours",
        story="Rotary embeddings pair neighboring coordinates instead of the two halves.",
        evidence="mutation: the convention of arXiv:2104.09864 with Gemma's weights",
        patches=(
            Patch(
                "model/gemma.py",
                "left, right = jnp.split(x, 2, axis=-1)\n    return",
                "left, right = x[..., ::2], x[..., 1::2]\n    return",
            ),
        ),
        caught_by=("golden.loss",),
    ),
    Fault(
        id="queries_not_scaled",
        story="Attention logits are not divided by the square root of head_dim.",
        evidence="mutation: without the scale of arXiv:1706.03762",
        patches=(Patch("model/gemma.py", "rotate(q, positions) * spec.head_dim**-0.5", "rotate(q, positions)"),),
        caught_by=("golden.loss",),
    ),
    Fault(
        id="norms_of_a_layer_exchanged",
        story="The norms before attention and before the feed-forward layer are swapped.",
        evidence="mutation: two scales of the same shape, which differs between the experts",
        patches=(
            Patch(
                "model/gemma.py",
                'apply_norms(self, "pre_attention_norm", xs, conds)\n',
                'apply_norms(self, "pre_" + "ffw_norm", xs, conds)\n',
            ),
            Patch(
                "model/gemma.py",
                'apply_norms(self, "pre_ffw_norm", xs, conds)\n',
                'apply_norms(self, "pre_attention_norm", xs, conds)\n',
            ),
        ),
        caught_by=("golden.loss",),
    ),
    Fault(
        id="adarms_parts_in_another_order",
        story="The three thirds of an adaRMS projection are used as shift, scale and gate.",
        evidence=f"{_OPENPI}/gemma.py#L129; mutation: DiT's order (arXiv:2212.09748)",
        patches=(Patch("model/gemma.py", "scale, shift, gate = jnp.split", "shift, scale, gate = jnp.split"),),
        caught_by=("golden.loss",),
    ),
    Fault(
        id="last_layer_is_not_run",
        story="The last layer of every stack is left out.",
        evidence="mutation: off by one in the number of layers",
        patches=(
            Patch(
                "model/gemma.py",
                "jax.lax.scan(body, carry, (state, xs))",
                "jax.lax.scan(body, carry, jax.tree.map(lambda x: x[:-1], (state, xs)))",
            ),
        ),
        caught_by=("prompt.every_parameter_matters", "forward.every_parameter_matters", "golden.prefix_tokens"),
    ),
    Fault(
        id="layers_shifted_by_one",
        story="The last layer of every stack comes first.",
        evidence="mutation: layers counted from one",
        patches=(
            Patch(
                "model/gemma.py",
                "jax.lax.scan(body, carry, (state, xs))",
                "jax.lax.scan(body, carry, (jax.tree.map(lambda x: jnp.roll(x, 1, 0), state), xs))",
            ),
        ),
        caught_by=("golden.prefix_tokens",),
    ),
    Fault(
        id="position_embedding_forgotten",
        story="SigLIP's patches get no position embeddings.",
        evidence="mutation: a parameter that is loaded and never read",
        patches=(
            Patch(
                "model/siglip.py",
                "x = x.reshape(x.shape[0], -1, x.shape[-1]) + self.pos_embedding[...]",
                "x = x.reshape(x.shape[0], -1, x.shape[-1])",
            ),
        ),
        caught_by=("forward.every_parameter_matters", "golden.prefix_tokens"),
    ),
    Fault(
        id="outputs_spread_by_one_head",
        bugs=("A14",),
        story="A fresh attn_vec_einsum counts one head's inputs, as pi0-FAST does, and is too large.",
        evidence=f"{_OPENPI}/gemma_fast.py#L161",
        patches=(Patch("model/initialization.py", "_lecun(-3, -2)", "_lecun(-2)"),),
        caught_by=("structure.fresh_weights_spread_by_their_fan_in",),
    ),
    Fault(
        id="fresh_weights_are_shifted",
        story="Fresh weights have the right spread, around half a standard deviation instead of zero.",
        evidence="mutation: a draw between bounds that are not symmetric",
        patches=(
            Patch(
                "model/initialization.py",
                "        outside = outside[np.abs(again) >= 2]\n",
                "        outside = outside[np.abs(again) >= 2]\n    block += np.float32(0.5)\n",
            ),
        ),
        caught_by=("structure.fresh_weights_have_mean_zero",),
    ),
    Fault(
        id="parameters_in_the_compute_dtype",
        story="A model that computes in bfloat16 also stores its parameters in bfloat16.",
        evidence="mutation of docs/bugs.md#g5: one dtype for two things",
        patches=(
            Patch(
                "model/pi0.py",
                "self.action_in_proj = nnx.Linear(spec.action_dim, width, rngs=rngs)",
                "self.action_in_proj = nnx.Linear(spec.action_dim, width, param_dtype=spec.dtype, rngs=rngs)",
            ),
            Patch(
                "model/pi0_spec.py",
                "Leaf(shape, np.dtype(np.float32))",
                'Leaf(shape, np.dtype(self.dtype if path.startswith("action_in_proj/") else np.float32))',
            ),
        ),
        caught_by=("structure.compute_dtype_changes_no_parameter", "structure.every_parameter_is_float32"),
    ),
    Fault(
        id="served_in_bfloat16",
        bugs=("B7",),
        story="Parameters are always restored in bfloat16, whatever their stored or requested dtype.",
        evidence="https://github.com/Physical-Intelligence/openpi/blob/15a9616/src/openpi/policies/policy_config.py#L57",
        patches=(
            Patch(
                "../suite/subjects/reference.py",
                "dtype=dtype and jnp.dtype(dtype))",
                'dtype=jnp.dtype(dtype or "bfloat16"))',
            ),
        ),
        caught_by=("golden.checkpoint_restores",),
    ),
    Fault(
        id="rotary_angles_in_the_compute_dtype",
        story="Rotary angles are computed in bfloat16, which cannot distinguish large positions.",
        evidence="https://github.com/huggingface/transformers/pull/29285",
        patches=(
            Patch(
                "model/gemma.py",
                "radians = positions[..., None, None] / wavelengths",
                "radians = (positions[..., None, None] / wavelengths).astype(x.dtype)",
            ),
        ),
        caught_by=("forward.bfloat16_is_near_float32",),
    ),
)
