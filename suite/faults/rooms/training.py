"""Faults in fine-tuning: wrong parameters trained, averages that drift, runs that do not resume properly."""

from suite.faults.fault import Fault, Patch

OPENPI = "https://github.com/Physical-Intelligence/openpi"
AT = f"{OPENPI}/blob/15a9616"
FROZEN = "        return expert is not None and self.experts[expert].has_lora and not is_adapter(path)"
UPDATE = "_optimizer(config).update(grads, state.opt_state, state.trainable)"
NEXT = "state = TrainState(state.step + 1, trainable, state.frozen, opt_state, ema)"
SERVED = "return self.params if self.ema is None else dict(sorted((self.frozen | self.ema).items()))"
RESUMED = ("training.resumed_equals_uninterrupted",)
TABLES = ("training.adapters_freeze_their_own_expert", "structure.trainable_set_equals_openpi_at_real_size")

FAULTS = (
    Fault(
        id="vision_encoder_is_frozen_too",
        bugs=("B1",),
        story="Adapters freeze the vision encoder too, so the trained set is not the one the config declares.",
        evidence=f"{OPENPI}/issues/744",
        patches=(
            Patch(
                "model/pi0_spec.py",
                FROZEN,
                '        if self.has_lora and path.startswith("PaliGemma/img"):\n            return True\n' + FROZEN,
            ),
        ),
        caught_by=TABLES,
    ),
    Fault(
        id="one_adapted_expert_freezes_both",
        bugs=("B2",),
        story="What is frozen depends on whether any expert has LoRA, not on which one.",
        evidence=f"{OPENPI}/issues/451",
        patches=(Patch("model/pi0_spec.py", FROZEN, FROZEN.replace("self.experts[expert].has_lora", "self.has_lora")),),
        caught_by=TABLES,
    ),
    Fault(
        id="lora_freezes_nothing",
        bugs=("B3",),
        story="A LoRA config has the default filter, so the run trains everything.",
        evidence=f"{OPENPI}/issues/317",
        patches=(Patch("model/pi0_spec.py", FROZEN, "        return False"),),
        caught_by=TABLES,
    ),
    Fault(
        id="training_has_a_filter_of_its_own",
        bugs=("B3",),
        story="Training splits parameters with a second filter of its own, which freezes nothing.",
        evidence=f"{AT}/src/openpi/training/config.py#L493",
        patches=(
            Patch(
                "training/step.py",
                "for path in config.model.param_spec() if config.model.is_frozen(path)",
                "for path in ()",
            ),
        ),
        caught_by=(
            "training.changes_only_trainables",
            "golden.training_changes_the_same_parameters",
            "training.optimizer_keeps_nothing_of_frozen_parameters",
        ),
    ),
    Fault(
        id="adarms_of_an_adapted_expert_is_trained",
        bugs=("B5",),
        story="In pi05, the adaRMS projections are not part of what adapters freeze.",
        evidence=f"{AT}/src/openpi/models/pi0_config.py#L79",
        patches=(Patch("model/pi0_spec.py", FROZEN, FROZEN + ' and "/Dense_0/" not in path'),),
        caught_by=TABLES,
    ),
    Fault(
        id="expert_by_pattern",
        bugs=("B6",),
        story="Every name with _1 counts as the action expert's, including SigLIP's Dense_1 and LayerNorm_1.",
        evidence=f"{AT}/src/openpi/models/pi0_config.py#L93",
        patches=(
            Patch(
                "model/pi0_spec.py",
                "        expert = expert_of(path)\n",
                '        expert = 1 if "_1" in path else expert_of(path)\n',
            ),
        ),
        caught_by=TABLES,
    ),
    Fault(
        id="frozen_parameters_are_averaged",
        bugs=("B4",),
        story="The moving average includes frozen bfloat16 weights, which drift through rounding.",
        evidence=f"{AT}/scripts/train.py#L169",
        patches=(
            Patch(
                "training/step.py",
                SERVED,
                SERVED.replace("self.frozen |", "{p: 0.9 * x + 0.1 * x for p, x in self.frozen.items()} |"),
            ),
        ),
        caught_by=(
            "training.moving_average_leaves_frozen_alone",
            "training.moving_average_weighs_the_past_by_its_decay",
        ),
    ),
    Fault(
        id="decay_weighs_what_is_new",
        story="The decay multiplies the new value, so the average hardly averages.",
        evidence="mutation: decay and one minus decay are swapped",
        patches=(Patch("training/step.py", "o + (1 - decay) * (n - o)", "o + decay * (n - o)"),),
        caught_by=("training.moving_average_weighs_the_past_by_its_decay",),
    ),
    Fault(
        id="average_starts_at_zero",
        story="The average starts at zero without bias correction.",
        evidence="mutation: Adam's moments start at zero, but an average of parameters does not",
        patches=(
            Patch("training/step.py", "jax.tree.map(jnp.copy, trainable)", "jax.tree.map(jnp.zeros_like, trainable)"),
        ),
        caught_by=("training.moving_average_weighs_the_past_by_its_decay",),
    ),
    Fault(
        id="frozen_parameters_have_moments",
        story="The optimizer keeps two moments of every parameter, even frozen ones.",
        evidence="mutation: the optimizer covers all parameters, with zero gradients for frozen ones",
        patches=(
            Patch(
                "training/step.py",
                "return _optimizer(config).init(trainable), ema",
                "spec = config.model.param_spec()\n"
                "    return _optimizer(config).init({p: jnp.zeros(x.shape, x.dtype) for p, x in spec.items()}), ema",
            ),
            Patch(
                "training/step.py",
                UPDATE,
                "_optimizer(config).update({p: jnp.zeros(x.shape) for p, x in state.frozen.items()} | grads,"
                " state.opt_state, state.params)\n    updates = {path: updates[path] for path in state.trainable}",
            ),
        ),
        caught_by=("training.optimizer_keeps_nothing_of_frozen_parameters",),
    ),
    Fault(
        id="frozen_parameters_decay",
        story="Weight decay shrinks frozen parameters in every step.",
        evidence="mutation: weight decay is applied to all parameters",
        patches=(
            Patch(
                "training/step.py", NEXT, NEXT.replace("state.frozen", "{p: x * 0.99 for p, x in state.frozen.items()}")
            ),
        ),
        caught_by=("training.changes_only_trainables",),
    ),
    Fault(
        id="every_step_compiles_anew",
        story="A run's initial state has another placement than the state that a step returns.",
        evidence="mutation: the step counter is created without a device",
        patches=(Patch("training/step.py", "step = put(np.zeros((), np.int32), template.step.sharding)", "step = 0"),),
        caught_by=("training.later_steps_compile_nothing",),
    ),
    Fault(
        id="climbs",
        story="The steps ascend the gradient.",
        evidence="mutation: the sign of the update",
        patches=(Patch("training/step.py", UPDATE, UPDATE.replace("grads,", "jax.tree.map(jnp.negative, grads),")),),
        caught_by=("training.learns_one_batch",),
    ),
    Fault(
        id="gradients_are_not_clipped",
        story="The gradient norm is reported but not used for clipping.",
        evidence="mutation: clipping is left out of the optimizer",
        patches=(
            Patch("training/configs.py", "optax.clip_by_global_norm(self.clip_gradient_norm)", "optax.identity()"),
        ),
        caught_by=("golden.training_steps",),
    ),
    Fault(
        id="norm_of_the_gradients_after_clipping",
        story="The reported gradient norm is that of the clipped gradients, so it never shows that they explode.",
        evidence="mutation: the norm is taken one line later",
        patches=(
            Patch(
                "training/step.py",
                '"grad_norm": optax.tree.norm(grads)',
                '"grad_norm": jnp.minimum(optax.tree.norm(grads), 1.0)',
            ),
        ),
        caught_by=("golden.training_gradient_norms",),
    ),
    Fault(
        id="schedule_starts_at_zero",
        story="The learning rate of step 0 is zero, so the first step changes nothing.",
        evidence="mutation: warm-up from zero, as in most schedules",
        patches=(Patch("training/configs.py", "init_value=self.peak_lr / (self.warmup_steps + 1)", "init_value=0.0"),),
        caught_by=("golden.training_steps",),
    ),
    Fault(
        id="loss_is_that_of_the_first_sample",
        story="A step uses the first sample's loss and ignores the others.",
        evidence="mutation: an index in place of a mean",
        patches=(Patch("training/step.py", "time=time, train=True))", "time=time, train=True)[0])"),),
        caught_by=("golden.training_losses",),
    ),
    Fault(
        id="optimizer_is_lost_on_resume",
        story="A resumed run starts with zero moments.",
        evidence="mutation: the optimizer state is saved but not restored",
        patches=(
            Patch(
                "training/runs.py",
                'opt_state=rest["opt_state"]',
                'opt_state=jax.tree.map(lambda x: x * 0, rest["opt_state"])',
            ),
        ),
        caught_by=RESUMED,
    ),
    Fault(
        id="steps_are_counted_anew_after_resume",
        story="A resumed run counts from zero: warm-up repeats, and the same noise is drawn again.",
        evidence="mutation: the step is not restored",
        patches=(Patch("training/runs.py", 'step=rest["step"]', 'step=rest["step"] * 0'),),
        caught_by=(*RESUMED, "training.resuming_a_finished_run_changes_nothing"),
    ),
    Fault(
        id="adapters_are_made_anew_on_resume",
        bugs=("P5",),
        story="Resuming wraps the model in fresh adapters, and the trained ones are lost.",
        evidence="https://github.com/huggingface/lerobot/pull/3485",
        patches=(
            Patch(
                "training/runs.py",
                'trainable=averaged if template.ema is None else rest["trainable"]',
                'trainable={path: x * (0 if path.endswith("lora_b") else 1) for path, x in rest["trainable"].items()}',
            ),
        ),
        caught_by=(*RESUMED, "training.resuming_a_finished_run_changes_nothing"),
    ),
    Fault(
        id="average_is_resumed_as_what_was_trained",
        story="A run with a moving average resumes from the average, since that is what its params hold.",
        evidence="mutation: the wrong one of two trees is restored",
        patches=(
            Patch(
                "training/runs.py",
                'trainable=averaged if template.ema is None else rest["trainable"]',
                "trainable=averaged",
            ),
        ),
        caught_by=(
            *RESUMED,
            "training.resuming_a_finished_run_changes_nothing",
            "training.a_damaged_step_is_named_and_an_older_one_resumes",
        ),
    ),
    Fault(
        id="average_is_switched_off_in_silence",
        bugs=("E2",),
        story="A run with a moving average silently resumes without one, from the averaged parameters.",
        evidence=f"{AT}/src/openpi/training/checkpoints.py#L142",
        patches=(
            Patch("training/runs.py", "if had_ema != (template.ema is not None):", "if False:"),
            Patch("training/runs.py", "return rest if state.ema is None else rest |", "return rest |"),
        ),
        caught_by=("training.switching_the_average_keeps_what_was_trained",),
    ),
    Fault(
        id="average_is_not_served",
        story="A run saves the trained parameters where the averaged ones belong.",
        evidence="mutation: the wrong one of two trees is saved",
        patches=(Patch("training/runs.py", "params_item(state.inference_params,", "params_item(state.params,"),),
        caught_by=("training.saves_what_is_served", *RESUMED),
    ),
    Fault(
        id="alpha_is_not_compared_on_resume",
        bugs=("E9", "P5"),
        story="A run resumes with another alpha than it was trained with, and every adapter is scaled.",
        evidence="https://github.com/huggingface/lerobot/pull/3573",
        patches=(Patch("training/runs.py", "if stored.lora != config.model.lora:", "if False:"),),
        caught_by=("training.resuming_with_another_adapter_is_refused",),
    ),
    Fault(
        id="failed_save_goes_unnoticed",
        bugs=("E4",),
        story="A save fails in the background, and training ends as if there were a checkpoint.",
        evidence=f"{OPENPI}/issues/425",
        patches=(
            Patch(
                "../suite/subjects/reference.py",
                "    with runs.open_run(folder, max_to_keep=None) as run:\n"
                "        runs.save_train_state(run, config, state)\n",
                '    with __import__("contextlib").suppress(Exception):\n'
                "        with runs.open_run(folder, max_to_keep=None) as run:\n"
                "            runs.save_train_state(run, config, state)\n",
            ),
        ),
        caught_by=("training.a_save_that_fails_is_an_error",),
    ),
    Fault(
        id="every_step_draws_the_same",
        story="The run's key is used unchanged, so every step has the first one's noise and times.",
        evidence=f"{AT}/scripts/train.py#L155",
        patches=(Patch("training/step.py", "jax.random.fold_in(key, state.step)", "jax.random.fold_in(key, 0)"),),
        caught_by=("training.each_step_draws_anew",),
    ),
    Fault(
        id="only_the_last_step_is_kept",
        story="Every save deletes the previous step, so there is no fallback if the last one is damaged.",
        evidence=f"{AT}/src/openpi/training/checkpoints.py#L34",
        patches=(
            Patch(
                "../suite/subjects/reference.py",
                "    with runs.open_run(folder, max_to_keep=None) as run:\n"
                "        runs.save_train_state(run, config, state)\n",
                "    with runs.open_run(folder) as run:\n        runs.save_train_state(run, config, state)\n",
            ),
        ),
        caught_by=("training.a_damaged_step_is_named_and_an_older_one_resumes",),
    ),
)
