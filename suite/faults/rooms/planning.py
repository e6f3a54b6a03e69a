"""Faults in planning: what is said of a training that is not what the training does."""

from suite.faults.fault import Fault, Patch

OPENPI = "https://github.com/Physical-Intelligence/openpi"
_RULE = "return self.model.is_frozen(path) or (self.freeze_vision and path.startswith(VISION))"

FAULTS = (
    Fault(
        id="plan_trains_the_base_of_adapters",
        bugs=("B3",),
        story="A config forgets what adapters freeze, so the plan has moments of the base and of the adapters.",
        evidence=f"{OPENPI}/issues/317",
        patches=(Patch("training/configs.py", _RULE, "return self.freeze_vision and path.startswith(VISION)"),),
        caught_by=("planning.adapters_take_less_optimizer_memory",),
    ),
    Fault(
        id="plan_has_everything_on_every_device",
        story="The plan counts whole arrays on every device, so more devices never help.",
        evidence="mutation: the shape of a whole array in place of its part",
        patches=(
            Patch(
                "planning/resident.py",
                "math.prod(leaf.sharding.shard_shape(leaf.shape))",
                "math.prod(leaf.shape)",
            ),
        ),
        caught_by=("planning.more_devices_hold_less_each",),
    ),
    Fault(
        id="plan_ignores_frozen_vision",
        story="A frozen image encoder is planned, and trained, as if it were not.",
        evidence=f"{OPENPI}/issues/744",
        patches=(Patch("training/configs.py", _RULE, "return self.model.is_frozen(path)"),),
        caught_by=("planning.freezing_more_needs_less",),
    ),
)
