"""Faults in reading lerobot's policies and their norm stats."""

from suite.faults.fault import Fault, Patch

_LEROBOT = "https://github.com/huggingface/lerobot/blob/v0.6.1/src/lerobot"
_TABLE = ("from_lerobot.policy_has_its_loss", "from_lerobot.trained_table_counts")
_STATES = "from_lerobot.states_are_normalized_as_before"
_ACTIONS = "from_lerobot.actions_are_denormalized_as_before"

FAULTS = (
    Fault(
        id="policy_read_with_its_unused_table",
        bugs=("G7",),
        story="Of lerobot's two token tables the one that nothing reads is taken, which a full training leaves behind.",
        evidence=f"{_LEROBOT}/policies/pi0/modeling_pi0.py#L946",
        patches=(
            Patch(
                "layouts/torch/openpi.py",
                "        if self._policy in _UNTIED:\n            return\n",
                "        if self._policy in _UNTIED:\n            self._names[TABLE] = self._names[TIED_TABLE]\n"
                "            return\n",
            ),
        ),
        caught_by=_TABLE,
    ),
    Fault(
        id="trained_policy_refused",
        story="A policy after a full training is refused, because lerobot's two token tables differ by then.",
        evidence="this library's own reader, before it knew lerobot's folders",
        patches=(Patch("layouts/torch/openpi.py", "if self._policy in _UNTIED:", "if self._policy == '':"),),
        caught_by=(*_TABLE, "from_lerobot.converted_policy_is_the_loaded_one"),
    ),
    Fault(
        id="norm_stats_of_a_policy_left_behind",
        story="A policy is converted without the norm stats in its processors.",
        evidence="https://github.com/huggingface/lerobot/issues/2616",
        patches=(
            Patch(
                "checkpoints/norm_stats.py",
                "if not has_processors(policy):",
                "if detected:",
            ),
        ),
        caught_by=(_STATES, _ACTIONS, "from_lerobot.statistics_are_where_the_pipeline_says"),
    ),
    Fault(
        id="epsilon_of_lerobot_taken_for_openpis",
        story="lerobot's statistics are copied as they are, though openpi adds another epsilon to every divisor.",
        evidence=f"{_LEROBOT}/processor/normalize_processor.py#L330",
        patches=(Patch("norm_stats/transfer.py", "**known, **used}", "**used, **known}"),),
        caught_by=(_STATES,),
    ),
    Fault(
        id="number_of_the_normalizing_step_guessed",
        story="Statistics are read from the step's file of lerobot 0.6, and those of an older policy are missing.",
        evidence="lerobot 0.4 has 5 and 2 where 0.6 has 6 and 3",
        patches=(
            Patch(
                "norm_stats/lerobot_files.py",
                '    state = step.get("state_file")\n',
                "    state = f\"{file.stem}_step_{6 if file.name == PREPROCESSOR else 0}_{step['registry_name']}\"\n"
                '    state += ".safetensors"\n',
            ),
        ),
        caught_by=("from_lerobot.statistics_are_where_the_pipeline_says",),
    ),
    Fault(
        id="fast_policy_read_with_two_tables",
        story="A pi0_fast policy whose tables differ is read with one of them, though it embeds with one and makes "
        "logits with the other.",
        evidence=f"{_LEROBOT}/policies/pi0_fast/modeling_pi0_fast.py#L464",
        patches=(
            Patch("layouts/torch/openpi.py", '_UNTIED = ("pi0", "pi05")', '_UNTIED = ("pi0", "pi05", "pi0_fast")'),
        ),
        caught_by=("misfit.conflicting_tied_tables_are_refused",),
    ),
    Fault(
        id="fast_policy_named_by_its_tensors",
        story="The error about a pi0_fast policy for a pi0 lists the tensors of an action expert, and no family: by "
        "names alone it is a PaliGemma.",
        evidence="this library's own reader, before it knew lerobot's pi0_fast",
        patches=(
            Patch(
                "layouts/torch/openpi.py",
                'family_of(names) or (policy if policy == "pi0_fast" else None)',
                "family_of(names)",
            ),
        ),
        caught_by=("misfit.the_other_family_is_named",),
    ),
    Fault(
        id="adapter_of_a_policy_merged_without_alpha",
        story="A PEFT training is merged as if its alpha were its rank, and half of what it learned is missing.",
        evidence="https://github.com/huggingface/lerobot/issues/3551",
        patches=(Patch("layouts/torch/merged.py", "settings.scale(module, rank)", "1.0"),),
        caught_by=("from_lerobot.peft_training_has_its_loss",),
    ),
    Fault(
        id="adapters_on_projections_left_out",
        story="Of a PEFT training only the adapters on layers are merged; those on projections are lost.",
        evidence="https://github.com/huggingface/lerobot/issues/4494",
        patches=(
            Patch(
                "layouts/torch/merged.py",
                "    for module, raw in names.modules.items():\n",
                "    for module, raw in names.modules.items():\n"
                '        if ".layers." not in raw:\n            continue\n',
            ),
        ),
        caught_by=("from_lerobot.peft_training_has_its_loss",),
    ),
)
