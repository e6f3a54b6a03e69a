"""Faults between a save and the serving of what was saved."""

from suite.faults.fault import Fault, Patch

_ITEM = "item={PARAMS: tree.unflatten(params)}"
_REFUSAL = 'raise FileExistsError(f"{path}: already exists; choose another folder or remove it first")'
_AS_SAVED = "served.as_it_was_saved"

FAULTS = (
    Fault(
        id="everything_is_saved_as_bfloat16",
        story="Every parameter is saved in bfloat16, which does not have the numbers of float32 or float16.",
        evidence="mutation: the dtype of the checkpoint taken from a config",
        patches=(
            Patch(
                "layouts/orbax/save.py",
                _ITEM,
                'item={PARAMS: tree.unflatten({p: x.astype("bfloat16") for p, x in params.items()})}',
            ),
        ),
        caught_by=(
            _AS_SAVED,
            "served.trains_on_from_what_it_saved",
            "served.half_precision_keeps_its_numbers",
            "served.mixed_precision_keeps_its_numbers",
            "served.unusual_numbers_are_kept",
        ),
    ),
    Fault(
        id="second_save_is_ignored",
        bugs=("E4",),
        story="A save to a path that has a checkpoint returns without a word and writes nothing.",
        evidence="orbax's CheckpointManager skips a step that it has",
        patches=(Patch("layouts/orbax/save.py", _REFUSAL, "return"),),
        caught_by=("served.a_second_save_is_refused_or_served",),
    ),
    Fault(
        id="unreadable_weights_are_fresh",
        bugs=("P1",),
        story="If the stored weights cannot be read, serving prints a line and goes on with fresh ones.",
        evidence="https://github.com/huggingface/lerobot/issues/4577",
        patches=(
            Patch(
                "loading/loaders.py",
                "        return _read(stored, model, expected, lambda path: False, verify=self.verify)\n",
                "        try:\n"
                "            return _read(stored, model, expected, lambda path: False, verify=self.verify)\n"
                "        except Exception:\n"
                "            return model.init_params(0), None\n",
            ),
        ),
        caught_by=("served.damaged_weights_are_refused",),
    ),
)
