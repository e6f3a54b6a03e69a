"""Faults in fine-tuning: wrong parameters trained, averages that drift, steps that draw the same."""

from suite.faults.fault import Fault, Patch

OPENPI = "https://github.com/Physical-Intelligence/openpi"
AT = f"{OPENPI}/blob/15a9616"
FROZEN = "        return expert is not None and self.experts[expert].has_lora and not is_adapter(path)"
UPDATE = "_optimizer(config).update(grads, state.opt_state, state.trainable)"
NEXT = "state = TrainState(state.step + 1, trainable, state.frozen, opt_state, ema)"
SERVED = "return self.params if self.ema is None else dict(sorted((self.frozen | self.ema).items()))"
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
        caught_by=(*TABLES,),
    ),
    Fault(
        id="training_has_a_filter_of_its_own",
        bugs=("B3",),
        story="Training splits parameters with a second filter of its own, which freezes nothing.",
        evidence=f"{AT}/src/openpi/training/config.py#L493",
        patches=(
            Patch(
                "training/step.py",
                "for path in config.model.param_spec() if config.is_frozen(path)",
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
            "training.moving_average_starts_at_the_parameters",
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
        caught_by=("training.moving_average_starts_at_the_parameters",),
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
        caught_by=(
            "finetuning.each_parameter_moves_downhill",
            "training.learns_one_batch",
        ),
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
        caught_by=(
            "finetuning.first_step_has_the_size_of_the_learning_rate",
            "golden.training_steps",
        ),
    ),
    Fault(
        id="loss_is_that_of_the_first_sample",
        story="A step uses the first sample's loss and ignores the others.",
        evidence="mutation: an index in place of a mean",
        patches=(Patch("training/step.py", "time=time, train=True))", "time=time, train=True)[0])"),),
        caught_by=(
            "golden.training_losses",
            "training.minimizes_the_loss_of_the_model",
            "finetuning.first_loss_is_that_of_the_model",
        ),
    ),
    Fault(
        id="every_step_draws_the_same",
        story="The run's key is used unchanged, so every step has the first one's noise and times.",
        evidence=f"{AT}/scripts/train.py#L155",
        patches=(Patch("training/step.py", "jax.random.fold_in(key, state.step)", "jax.random.fold_in(key, 0)"),),
        caught_by=(
            "finetuning.draws_depend_on_step_and_seed",
            "training.each_step_draws_anew",
        ),
    ),
    Fault(
        id="half_of_each_adapter_is_frozen",
        story="Only lora_b is trained; lora_a keeps the values it was drawn with.",
        evidence="mutation: what LoRA-FA does on purpose, https://arxiv.org/abs/2308.03303",
        patches=(Patch("model/pi0_spec.py", FROZEN, FROZEN.replace("is_adapter(path)", 'path.endswith("lora_b")')),),
        caught_by=("finetuning.every_layer_of_an_adapter_learns", "training.changes_every_adapter", *TABLES),
    ),
    Fault(
        id="experts_are_always_frozen",
        story="The weights of both experts are frozen even if nothing adapts them, so full fine-tuning hardly learns.",
        evidence="mutation: the condition on adapters is left out",
        patches=(Patch("model/pi0_spec.py", FROZEN, FROZEN.replace("self.experts[expert].has_lora and not", "not")),),
        caught_by=("training.nothing_is_frozen_without_adapters", "training.changes_every_parameter"),
    ),
    Fault(
        id="first_layers_are_not_trained",
        story="The update leaves out the first layer of every stack.",
        evidence="mutation: an index that starts at one",
        patches=(
            Patch(
                "training/step.py",
                "    trainable = optax.apply_updates(state.trainable, updates)\n",
                '    updates = {p: x.at[0].set(0) if "layers/" in p else x for p, x in updates.items()}\n'
                "    trainable = optax.apply_updates(state.trainable, updates)\n",
            ),
        ),
        caught_by=("training.changes_every_parameter",),
    ),
    Fault(
        id="average_is_the_latest",
        story="The moving average is the latest value of each parameter.",
        evidence="mutation: an update that assigns",
        patches=(Patch("training/step.py", "o + (1 - decay) * (n - o)", "n"),),
        caught_by=(
            "training.moving_average_follows_what_is_trained",
            "training.moving_average_weighs_the_past_by_its_decay",
        ),
    ),
)
