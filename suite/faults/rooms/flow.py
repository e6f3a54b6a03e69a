"""Faults in the model's inputs and outputs: tokens, masks, positions, time, noise, dropout."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi/blob/15a9616"

FAULTS = (
    Fault(
        id="cameras_swapped",
        story="The left and right wrist cameras are swapped.",
        evidence="mutation: the order of a list",
        patches=(
            Patch(
                "model/pi0.py", '"left_wrist_0_rgb", "right_wrist_0_rgb")', '"right_wrist_0_rgb", "left_wrist_0_rgb")'
            ),
        ),
        caught_by=("golden.prefix_tokens",),
    ),
    Fault(
        id="prompt_mask_ignored",
        story="A prompt's padding is attended to like its tokens.",
        evidence="mutation: a mask that is built but not used",
        patches=(
            Patch(
                "model/pi0.py",
                "jnp.concatenate([image_mask, observation.tokenized_prompt_mask], axis=1)",
                "jnp.concatenate([image_mask, jnp.ones_like(observation.tokenized_prompt_mask)], axis=1)",
            ),
        ),
        caught_by=("forward.what_is_masked_does_not_matter", "forward.longer_prompt_with_padding_is_the_same"),
    ),
    Fault(
        id="absent_cameras_are_seen",
        story="An absent camera's image is attended to like a present one.",
        evidence="mutation: a mask that is built but not used",
        patches=(
            Patch(
                "model/pi0.py", "jnp.repeat(present, image_tokens", "jnp.repeat(jnp.ones_like(present), image_tokens"
            ),
        ),
        caught_by=("forward.what_is_masked_does_not_matter",),
    ),
    Fault(
        id="positions_count_padding",
        story="Positions count every token, including padding and absent cameras.",
        evidence="mutation: arange where openpi's pi0.py uses the cumulative sum of the mask",
        patches=(
            Patch(
                "model/pi0.py",
                "positions = jnp.cumsum(real, axis=1) - 1\n        (_, out)",
                "positions = jnp.broadcast_to(jnp.arange(real.shape[1]), real.shape)\n        (_, out)",
            ),
        ),
        caught_by=("forward.padding_may_lie_anywhere", "forward.longer_prompt_with_padding_is_the_same"),
    ),
    Fault(
        id="prefix_is_causal",
        story="Images and prompt use a causal mask, like text in a language model.",
        evidence="mutation: a causal mask in place of PaliGemma's prefix mask (arXiv:2407.07726)",
        patches=(
            Patch(
                "model/pi0.py",
                "starts = jnp.concatenate([jnp.zeros(prefix.shape[1], bool), new_block])",
                "starts = jnp.concatenate([jnp.ones(prefix.shape[1], bool), new_block])",
            ),
        ),
        caught_by=(
            "forward.sampling_follows_the_velocity_of_the_loss",
            "golden.loss",
        ),
    ),
    Fault(
        id="mask_of_the_first_sample",
        story="Every sample uses the mask of the first one in its batch.",
        evidence="mutation: a batch axis that broadcasts",
        patches=(
            Patch("model/gemma.py", "jnp.where(mask[:, None, None, :, :]", "jnp.where(mask[:1, None, None, :, :]"),
        ),
        caught_by=("forward.order_of_the_batch_does_not_matter", "forward.sample_is_computed_alone"),
    ),
    Fault(
        id="suffix_one_position_on",
        story="When sampling, the first action token is one position further than in training.",
        evidence="mutation: off by one after a cache",
        patches=(
            Patch(
                "model/pi0.py", "[:, None] + jnp.cumsum(real, axis=1) - 1\n", "[:, None] + jnp.cumsum(real, axis=1)\n"
            ),
        ),
        caught_by=("forward.sampling_follows_the_velocity_of_the_loss", "golden.sampled_actions"),
    ),
    Fault(
        id="time_runs_backwards",
        story="Time 0 is noise and time 1 the data, as in the paper and not as in openpi's checkpoints.",
        evidence=f"{_OPENPI}/src/openpi/models/pi0.py#L226 (its comment on the paper's convention)",
        patches=(Patch("model/pi0.py", "t * noise + (1 - t) * actions", "(1 - t) * noise + t * actions"),),
        caught_by=("forward.sampling_follows_the_velocity_of_the_loss", "golden.loss"),
    ),
    Fault(
        id="velocity_points_to_the_noise",
        story="The loss uses actions - noise as the velocity, and sampling moves against it.",
        evidence="mutation: the sign of the target",
        patches=(Patch("model/pi0.py", "velocity - (noise - actions)", "velocity - (actions - noise)"),),
        caught_by=("forward.sampling_follows_the_velocity_of_the_loss", "golden.loss"),
    ),
    Fault(
        id="time_as_cosine_and_sine",
        story="The time embedding has its cosines before its sines.",
        evidence="mutation: the order of a concatenation",
        patches=(Patch("model/pi0.py", "[jnp.sin(phases), jnp.cos(phases)]", "[jnp.cos(phases), jnp.sin(phases)]"),),
        caught_by=("golden.loss",),
    ),
    Fault(
        id="actions_read_from_the_front",
        story="The action expert's first tokens are read as actions, but in pi0 the first one is the state.",
        evidence="mutation: a slice from the wrong end",
        patches=(Patch("model/pi0.py", "out[:, -self.spec.action_horizon :]", "out[:, : self.spec.action_horizon]"),),
        caught_by=("golden.loss",),
    ),
    Fault(
        id="noise_from_the_key_of_the_time",
        story="Noise and time are drawn from swapped keys.",
        evidence="mutation: the order in which a key is split",
        patches=(Patch("model/pi0.py", "_, noise_key, time_key = ", "_, time_key, noise_key = "),),
        caught_by=("golden.loss_from_the_same_key",),
    ),
    Fault(
        id="one_tensor_through_float16",
        story="One tensor is loaded through float16.",
        evidence="mutation: half precision on the way",
        patches=(
            Patch(
                "loading/match.py",
                "    return dict(sorted((loaded | cast).items()))\n",
                '    half = {path: x.astype("float16") for path, x in loaded.items() if "action_in" in path}\n'
                "    half = {path: x.astype(loaded[path].dtype) for path, x in half.items()}\n"
                "    return dict(sorted((loaded | half | cast).items()))\n",
            ),
        ),
        caught_by=("golden.checkpoint_loads_whole",),
    ),
    Fault(
        id="served_as_bfloat16_can_hold_it",
        bugs=("B7",),
        story="Serving rounds every parameter to bfloat16, whatever the model computes in.",
        evidence=f"{_OPENPI}/src/openpi/policies/policy_config.py#L57",
        patches=(
            Patch(
                "../suite/subjects/reference.py",
                ".load_for_inference(Pi0Config.from_json(model))[0]\n",
                ".load_for_inference(Pi0Config.from_json(model))[0] | {}\n\n\n"
                "_exactly = load_for_inference\n\n\n"
                "def load_for_inference(model: Data, path: str) -> Params:\n"
                "    return {p: x.astype(jnp.bfloat16).astype(x.dtype) for p, x in _exactly(model, path).items()}\n",
            ),
        ),
        caught_by=("golden.checkpoint_is_served_whole",),
    ),
    Fault(
        id="restored_by_cutting_bits",
        story="A cast to bfloat16 truncates instead of rounding.",
        evidence="mutation: a cast by reinterpreting bits",
        patches=(
            Patch(
                "../suite/subjects/reference.py",
                "restore_type=np.ndarray, dtype=dtype and jnp.dtype(dtype))\n",
                "restore_type=np.ndarray, dtype=None) | (\n"
                '        cut_to_bfloat16(checkpoints.restore_params(path)) if dtype == "bfloat16" else {}\n'
                "    )\n\n\n"
                "def cut_to_bfloat16(params):\n"
                "    bits = {path: np.asarray(x).view(np.uint32) >> 16 for path, x in params.items()}\n"
                "    return {path: x.astype(np.uint16).view(jnp.bfloat16) for path, x in bits.items()}\n",
            ),
        ),
        caught_by=("forward.bfloat16_parameters_are_near_float32",),
    ),
    Fault(
        id="loss_is_summed",
        story="Training minimizes the sum of the losses instead of their mean.",
        evidence="mutation: a reduction; Adam hides it except in clipping and in the reported numbers",
        patches=(
            Patch("training/step.py", "return jnp.mean(model.compute_loss(", "return jnp.sum(model.compute_loss("),
        ),
        caught_by=("golden.training_losses", "golden.training_gradient_norms"),
    ),
    Fault(
        id="dropout_crashes_with_adapters",
        bugs=("A16",),
        story="Python branches on a traced value to enable dropout, so the first training step raises.",
        evidence=f"{_OPENPI}/src/openpi/models/gemma.py#L359",
        patches=(
            Patch(
                "model/gemma.py",
                "    if key is None:\n",
                "    if key is None or not jnp.any(jax.random.key_data(key)):\n",
            ),
        ),
        caught_by=("forward.dropout_trains",),
    ),
    Fault(
        id="dropout_is_never_on",
        story="Training does not pass its flag on, so nothing is ever dropped.",
        evidence="mutation: an argument that is not passed on",
        patches=(Patch("training/step.py", "noise=noise, time=time, train=True)", "noise=noise, time=time)"),),
        caught_by=("forward.dropout_trains",),
    ),
    Fault(
        id="dropout_drops_the_same_ever_again",
        story="Dropout ignores the seed: every step of every run drops the same values.",
        evidence="mutation: a constant key",
        patches=(Patch("model/pi0.py", "jax.random.fold_in(key, 3) if train", "jax.random.key(3) if train"),),
        caught_by=("forward.dropout_trains",),
    ),
    Fault(
        id="dropout_is_always_on",
        story="Validation losses use dropout too.",
        evidence="mutation: train=False that is not checked",
        patches=(Patch("model/pi0.py", "if train and self.spec.dropout else None", "if self.spec.dropout else None"),),
        caught_by=("forward.dropout_is_for_training_only",),
    ),
    Fault(
        id="expert_of_no_adapters_is_frozen",
        story="Adapters on one expert freeze the other one too, although nothing adapts it.",
        evidence=f"mutation of {_OPENPI}/src/openpi/models/pi0_config.py#L79: one flag for both experts",
        patches=(Patch("model/pi0_spec.py", "self.experts[expert].has_lora and not", "self.has_lora and not"),),
        caught_by=("structure.trainable_set_equals_openpi_at_real_size",),
    ),
)
