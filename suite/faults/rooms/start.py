"""Faults in what a load starts from and says: fresh parameters, the report, serving, and errors that say too little."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_SOURCE = f"{_OPENPI}/blob/15a9616/src/openpi"
_REFERENCE = "../suite/subjects/reference.py"
_LOAD = "        params, report = loader.load(Pi0Config.from_json(model), seed=seed)"
_SERVE = "return weight_loaders.CheckpointWeightLoader(path).load_for_inference(Pi0Config.from_json(model))[0]"
_SEEN = "seen.append(dataclasses.replace(entry, nonfinite=nonfinite))"

FAULTS = (
    Fault(
        id="load_completes_the_spec",
        story="A load adds to the description of the model that it is given.",
        evidence="Mutation: changes an argument in place.",
        patches=(Patch(_REFERENCE, _LOAD, f'{_LOAD}\n        model["loaded"] = True'),),
        caught_by=("start.changes_no_spec",),
    ),
    Fault(
        id="what_is_lacking_stays_out",
        bugs=("C5",),
        story="Parameters that the checkpoint lacks are not added, so the model is not whole.",
        evidence=f"{_OPENPI}/issues/283",
        patches=(Patch("loading/match.py", "sorted((loaded | cast).items())", "sorted(loaded.items())"),),
        caught_by=("start.has_every_parameter", "start.what_is_lacking_equals_init"),
    ),
    Fault(
        id="fresh_parameters_are_not_reported",
        bugs=("C5",),
        story="The report covers what the checkpoint holds, and not what was filled in at random.",
        evidence=f"{_SOURCE}/training/weight_loaders.py#L67",
        patches=(Patch("loading/match.py", _SEEN, f"{_SEEN} if entry.found else None"),),
        caught_by=("report.lists_every_parameter", "report.calls_initialized_what_is_lacking"),
    ),
    Fault(
        id="fresh_parameters_are_called_loaded",
        bugs=("P1",),
        story="The report calls every parameter of the model loaded, also those filled in at random.",
        evidence="https://github.com/huggingface/lerobot/issues/4577",
        patches=(
            Patch(
                "loading/match.py",
                _SEEN,
                "status = Status.LOADED if entry.status is Status.INITIALIZED else entry.status\n"
                "        seen.append(dataclasses.replace(entry, nonfinite=nonfinite, status=status))",
            ),
        ),
        caught_by=(
            "report.calls_loaded_what_is_stored",
            "report.what_is_called_loaded_does_not_depend_on_the_seed",
            "report.calls_initialized_what_is_lacking",
        ),
    ),
    Fault(
        id="peft_adapters_are_called_loaded",
        bugs=("C6",),
        story="Adapters in half precision, or with NaN, are reported as loaded unchanged and sound.",
        evidence="Mutation: the report of a second file is filled in from what the first one says.",
        patches=(
            Patch(
                "loading/loaders.py",
                "status = Status.LOADED if stored.dtype == loaded.dtype else Status.CAST",
                "status = Status.LOADED",
            ),
            Patch("loading/loaders.py", "nonfinite=count_nonfinite(loaded)", "nonfinite=0"),
        ),
        caught_by=("report.calls_cast_what_is_cast", "report.counts_what_is_not_finite"),
    ),
    Fault(
        id="serving_rounds",
        bugs=("C14",),
        story="Parameters are served in bfloat16, whatever the checkpoint holds.",
        evidence=f"{_SOURCE}/policies/policy_config.py#L54",
        patches=(
            Patch(
                _REFERENCE,
                f"    {_SERVE}",
                f"    {_SERVE.replace('return ', 'params = ')}\n"
                "    return {path: array.astype(jnp.bfloat16) for path, array in params.items()}",
            ),
        ),
        caught_by=("fit.is_served", "damage.harmless_oddity_is_served"),
    ),
    Fault(
        id="errors_say_nothing",
        bugs=("C11",),
        story="Whatever is wrong with a checkpoint, the error is that it does not fit.",
        evidence=f"{_SOURCE}/shared/array_typing.py#L70",
        patches=(
            Patch(
                _REFERENCE,
                _LOAD,
                "        try:\n"
                "            params, report = loader.load(Pi0Config.from_json(model), seed=seed)\n"
                "        except Exception:\n"
                '            raise ValueError("the checkpoint does not fit") from None',
            ),
        ),
        caught_by=(
            "damage.is_named",
            "misfit.the_file_is_named",
            "misfit.missing_tensor_is_named",
            "misfit.nothing_matched_is_named",
            "misfit.another_shape_is_named",
            "misfit.every_misfit_is_named",
            "misfit.the_other_family_is_named",
            "misfit.a_later_version_is_named",
            "misfit.adapters_for_a_model_without_are_named",
            "misfit.conflicting_tied_tables_are_named",
        ),
    ),
    Fault(
        id="served_errors_say_nothing",
        bugs=("C11",),
        story="Whatever is wrong with a checkpoint to serve, the error is that it does not fit.",
        evidence=f"{_SOURCE}/shared/array_typing.py#L70",
        patches=(
            Patch(
                _REFERENCE,
                f"    {_SERVE}",
                f"    try:\n        {_SERVE}\n"
                '    except Exception:\n        raise ValueError("the checkpoint does not fit") from None',
            ),
        ),
        caught_by=("misfit.the_served_file_is_named",),
    ),
    Fault(
        id="shapes_are_not_named",
        bugs=("C11",),
        story="The error about a parameter of another shape names it, but neither of the two shapes.",
        evidence=f"{_OPENPI}/issues/551",
        patches=(Patch("params.py", "{path}: expected {want}, found {got}", "{path}: has another shape"),),
        caught_by=("misfit.both_shapes_are_named",),
    ),
    Fault(
        id="no_name_is_shown",
        bugs=("C3",),
        story="The error about a file in which nothing matches shows no name, so a prefix is not seen.",
        evidence=f"{_SOURCE}/training/weight_loaders.py#L73",
        patches=(Patch("loading/match.py", "names = sorted(found)[:3]", "names = []"),),
        caught_by=("misfit.nothing_matched_is_named",),
    ),
)
