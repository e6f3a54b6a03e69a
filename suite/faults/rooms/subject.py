"""Faults in how the reference behaves as a subject."""

from suite.faults.fault import Fault, Patch

_HARNESS = "../suite/subjects/reference.py"

FAULTS = (
    Fault(
        id="declared_operation_is_not_there",
        story="A harness declares an operation that it has not implemented, and it counts as offered.",
        evidence="Mutation: a name without a function behind it.",
        patches=(Patch(_HARNESS, "def fold(model: Data", "fold = None\n\n\ndef _fold(model: Data"),),
        caught_by=("subject.absence_is_loud",),
    ),
    Fault(
        id="describes_no_versions",
        story="Results do not record the versions they were made with, so nobody can reproduce them.",
        evidence="Mutation: the list of packages is empty.",
        patches=(Patch(_HARNESS, "for name in packages}", "for name in ()}"),),
        caught_by=("subject.describes_itself",),
    ),
    Fault(
        id="shared_config_is_changed",
        bugs=("H6",),
        story="Saving modifies the given spec, and the next run that uses it is a different run.",
        evidence="https://github.com/Physical-Intelligence/openpi/blob/15a9616/scripts/train_pytorch.py#L405",
        patches=(
            Patch(
                _HARNESS,
                "    save_params(params, path, config=Pi0Config.from_json(model))",
                '    save_params(params, path, config=Pi0Config.from_json(model))\n    model["dtype"] = "bfloat16"',
            ),
        ),
        caught_by=("subject.arguments_are_left_alone",),
    ),
    Fault(
        id="draws_go_on_between_calls",
        story="A loss draws from a generator that goes on from call to call, so one seed has many losses.",
        evidence="mutation: a generator that belongs to the module, not to the call",
        patches=(
            Patch(
                "../suite/subjects/reference.py",
                "_draw(jax.random.key(seed), batch",
                "_draw(jax.random.key(seed + next(_CALLS)), batch",
            ),
            Patch(
                "../suite/subjects/reference.py",
                "def loss(model: Data",
                '_CALLS = __import__("itertools").count()\n\n\ndef loss(model: Data',
            ),
        ),
        caught_by=("subject.gives_one_answer",),
    ),
)
