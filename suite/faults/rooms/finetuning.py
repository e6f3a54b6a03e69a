"""Faults in fine-tuning whole models: what is listed, what learns, what is saved."""

from suite.faults.fault import Fault, Patch

_LISTED = "return [path for path in model.param_spec() if not model.is_frozen(path)]"
_COPY = "host = np.array(array, leaf.dtype) if copy else np.asarray(array).astype(leaf.dtype, copy=False)"
_FIRST = "    step = put(np.zeros((), np.int32), template.step.sharding)\n"

FAULTS = (
    Fault(
        id="image_encoder_is_trained_unlisted",
        story="The list of what is trained leaves out the image encoder, which the steps change all the same.",
        evidence="mutation: a list that is kept beside the optimizer's own",
        patches=(
            Patch(
                "training/step.py",
                _LISTED,
                _LISTED.replace("is_frozen(path)]", 'is_frozen(path) and "/img/" not in path]'),
            ),
        ),
        caught_by=("finetuning.frozen_parameters_keep_every_bit",),
    ),
    Fault(
        id="no_gradient_reaches_the_images",
        story="The image tokens are cut from the gradient, so the image encoder is listed as trained and never learns.",
        evidence="mutation: features that were computed without gradients",
        patches=(
            Patch(
                "model/pi0.py",
                "self.img(images.reshape(batch * number, *size))",
                "jax.lax.stop_gradient(self.img(images.reshape(batch * number, *size)))",
            ),
        ),
        caught_by=("training.changes_every_parameter",),
    ),
    Fault(
        id="runs_share_a_step_counter",
        story="A run starts at the step where the process's previous run ended, so it draws other noise and times.",
        evidence="mutation: a counter that outlives a run",
        patches=(
            Patch(
                "training/step.py",
                _FIRST,
                "    step = put(np.int32(_STARTED.append(0) or len(_STARTED)), template.step.sharding)\n",
            ),
            Patch("training/step.py", "def _place(", "_STARTED: list[int] = []\n\n\ndef _place("),
        ),
        caught_by=("finetuning.same_run_ends_the_same",),
    ),
    Fault(
        id="training_changes_what_it_is_given",
        bugs=("H6",),
        story="The parameters that a run starts from are clipped in place.",
        evidence="mutation: an in-place operation on arguments",
        patches=(Patch("training/step.py", _COPY, f"{_COPY}\n        np.clip(array, -1, 1, out=array)"),),
        caught_by=("finetuning.arguments_are_left_alone",),
    ),
    Fault(
        id="saves_the_parameters_in_bfloat16",
        story="A run saves its parameters in bfloat16 to halve the checkpoint; what is served is not what was trained.",
        evidence="mutation: the serving dtype at the save of a run",
        patches=(
            Patch(
                "training/runs.py",
                "params=params_item(state.inference_params, config=config.model),",
                'params=params_item({p: x.astype("bfloat16") for p, x in state.inference_params.items()}, '
                "config=config.model),",
            ),
        ),
        caught_by=("finetuning.serves_the_adapters_it_trained",),
    ),
)
