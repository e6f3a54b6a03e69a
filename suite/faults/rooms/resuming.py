"""Faults in saving and resuming runs: what is lost, what is mixed up, and what is said of it."""

from suite.faults.fault import Fault, Patch

OPENPI = "https://github.com/Physical-Intelligence/openpi"
AT = f"{OPENPI}/blob/15a9616"
RESUMED = ("training.resumed_equals_uninterrupted",)

FAULTS = (
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
        caught_by=(
            *RESUMED,
            "training.resumed_run_continues_the_losses",
            "training.resuming_a_finished_run_changes_nothing",
        ),
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
            "sharding.resumes_on_more_devices",
            "training.an_older_step_resumes",
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
        caught_by=("training.saves_what_is_served", "training.serves_what_is_saved"),
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
        caught_by=("training.an_older_step_resumes",),
    ),
    Fault(
        id="average_starts_anew_on_resume",
        story="A resumed run's moving average starts at the trained parameters and forgets the past.",
        evidence="mutation: the average is not restored",
        patches=(
            Patch(
                "training/runs.py",
                "ema=None if template.ema is None else averaged,",
                'ema=None if template.ema is None else jax.tree.map(jax.numpy.copy, rest["trainable"]),',
            ),
        ),
        caught_by=(
            "training.resumed_average_equals_uninterrupted",
            "training.resuming_a_finished_run_keeps_its_average",
            "sharding.resumes_its_average_on_more_devices",
        ),
    ),
    Fault(
        id="a_finished_run_is_saved_again",
        story="Resuming a run that has nothing left to do saves its last step once more, under the next number.",
        evidence="mutation: a save at the end, whatever was done",
        patches=(
            Patch(
                "../suite/subjects/reference.py",
                "    if infos:\n        _save(config, state, folder)\n",
                "    _save(config, state if infos else dataclasses.replace(state, step=state.step + 1), folder)\n",
            ),
        ),
        caught_by=("training.resuming_a_finished_run_writes_nothing",),
    ),
    Fault(
        id="switched_average_is_refused_without_a_name",
        story="A run does not resume with the moving average switched, and the error names no run.",
        evidence=f"{AT}/src/openpi/training/checkpoints.py#L142",
        patches=(
            Patch(
                "training/runs.py",
                'f"{folder}: trained {trained} a moving average',
                'f"trained {trained} a moving average',
            ),
        ),
        caught_by=("training.switching_the_average_is_refused_by_name",),
    ),
    Fault(
        id="damaged_step_is_refused_without_a_name",
        story="A damaged step ends in the error of the library that reads it, and nothing says which step it is.",
        evidence="mutation: an except clause that repeats the error",
        patches=(Patch("training/runs.py", 'f"{folder}: the step is damaged or incomplete ({error})"', '"damaged"'),),
        caught_by=("training.a_damaged_step_is_refused_by_name",),
    ),
)
