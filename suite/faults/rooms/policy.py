"""Faults in writing and reading lerobot's policy folders."""

from suite.faults.fault import Fault, Patch

_LEROBOT = "https://github.com/huggingface/lerobot"
_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_FOLDER = "layouts/lerobot"

FAULTS = (
    Fault(
        id="policy_actions_get_the_state_s_statistics",
        story="When a policy folder is read, actions get the statistics of the state.",
        evidence="mutation: one name for two features",
        patches=(
            Patch(
                "norm_stats/transfer.py",
                "in ((STATE, OBSERVATION_STATE), (ACTIONS, ACTION)):",
                "in ((STATE, OBSERVATION_STATE), (ACTIONS, OBSERVATION_STATE)):",
            ),
        ),
        caught_by=("policy.numbers_are_normalized_as_in_openpi", "policy.robot_gets_openpis_actions"),
    ),
    Fault(
        id="policy_config_has_fields_of_another_family",
        story="config.json of a pi0 has the fields of a pi0_fast, and lerobot rejects the file.",
        evidence=f"{_LEROBOT}/issues/3355",
        patches=(Patch(f"{_FOLDER}/config.py", " and model.family in field.families]", "]"),),
        caught_by=("policy.config_has_the_fields_of_its_version",),
    ),
    Fault(
        id="policy_of_a_pi05_takes_z_scores",
        story="A pi05 is normalized by mean and std, as a pi0 is.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/training/config.py#L187",
        patches=(
            Patch(
                f"{_FOLDER}/policy.py",
                'return "MEAN_STD" if self.model.family == "pi0" else "QUANTILES"',
                'return "MEAN_STD"',
            ),
        ),
        caught_by=("policy.steps_are_lerobots",),
    ),
    Fault(
        id="policy_statistics_copied_as_they_are",
        story="Norm stats are copied, and lerobot adds its own epsilon, a hundredth of openpi's.",
        evidence="https://github.com/TensorAuto/OpenTau/issues/481",
        patches=(Patch(f"{_FOLDER}/pipelines.py", "EPS = 1e-6", "EPS = 1e-8"),),
        caught_by=("policy.statistics_have_openpis_epsilon",),
    ),
    Fault(
        id="policy_has_one_token_table",
        story="The token table is written once, though lerobot has it twice and does not tie them.",
        evidence=f"{_OPENPI}/issues/669",
        patches=(
            Patch(
                f"{_FOLDER}/weights.py",
                'found = [*openpi_pytorch.rules(model), Rule(TOKEN_TABLE, "VD->VD", (openpi_pytorch.TIED_TABLE,))]',
                "found = openpi_pytorch.rules(model)",
            ),
        ),
        caught_by=("policy.every_tensor_of_a_policy_is_written",),
    ),
    Fault(
        id="policy_of_an_unknown_config_is_taken_for_pi05_base",
        story="What no file shows is taken to be as in pi05_base: absolute actions, and the state in the prompt.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/training/config.py#L745",
        patches=(
            Patch(
                "checkpoints/lerobot.py",
                "facts = None if config_name is None else data_facts(config_name)",
                'facts = data_facts(config_name or "pi05_base")',
            ),
        ),
        caught_by=("policy.what_no_file_shows_has_to_be_said",),
    ),
    Fault(
        id="policy_takes_the_gripper_for_relative",
        story="Absolute dimensions are not named, so that lerobot takes the gripper for relative to the state too.",
        evidence=f"{_LEROBOT}/issues/2970",
        patches=(
            Patch(
                "checkpoints/lerobot.py",
                'return Relative(names, () if all(mask) else ("absolute",))',
                "return Relative(names, ())",
            ),
        ),
        caught_by=("policy.relative_actions_are_those_of_the_mask",),
    ),
    Fault(
        id="policy_card_has_the_time",
        story="The model card says when it was written, so that no two runs write the same.",
        evidence="mutation: a date in a file",
        patches=(
            Patch(
                f"{_FOLDER}/card.py",
                '"converter": converter(),',
                '"converter": f"{converter()}, {__import__(\'time\').time_ns()}",',
            ),
        ),
        caught_by=("policy.two_runs_write_the_same_policy",),
    ),
    Fault(
        id="policy_card_tells_folders",
        story="The model card has the path of the source on the machine that converted it, for all of the Hub to read.",
        evidence="mutation: the whole path in place of its last name",
        patches=(
            Patch(
                "checkpoints/convert.py",
                "write_provenance(policy, place, detected.root.name, name, read.digests)",
                "write_provenance(policy, place, str(detected.root), name, read.digests)",
            ),
        ),
        caught_by=("policy.card_says_where_a_policy_is_from",),
    ),
)
