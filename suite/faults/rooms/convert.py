"""Faults in converting: the files next to the weights, and what a conversion leaves behind."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_SCRIPT = f"{_OPENPI}/blob/15a9616/examples/convert_jax_model_to_pytorch.py"
_LAYOUT = "layouts/torch/openpi.py"

FAULTS = (
    Fault(
        id="config_forgets_family",
        bugs=("G11",),
        story="config.json does not say whether the model is a pi05.",
        evidence=f"{_SCRIPT}#L544-L550",
        patches=(Patch(_LAYOUT, '        "pi05": model.family == "pi05",\n', ""),),
        caught_by=("convert.config_tells_what_the_model_is",),
    ),
    Fault(
        id="config_forgets_sizes",
        bugs=("G11",),
        story="config.json lacks the sizes, so a file can be read with other heads than it was written with.",
        evidence=f"{_SCRIPT}#L544-L550",
        patches=(Patch(_LAYOUT, '        "model": model.to_json(),\n', ""),),
        caught_by=("convert.config_tells_what_the_model_is", "convert.recorded_sizes_count"),
    ),
    Fault(
        id="config_has_action_dim_32",
        bugs=("G12",),
        story="config.json says 32 action dimensions for every model.",
        evidence=f"{_OPENPI}/issues/714",
        patches=(Patch(_LAYOUT, '"action_dim": model.action_dim', '"action_dim": 32'),),
        caught_by=("convert.config_tells_what_the_model_is",),
    ),
    Fault(
        id="recorded_sizes_not_compared",
        story="The sizes recorded next to the weights are ignored, so six heads of ten load as ten of six.",
        evidence="mutation: reads tensors by their shapes alone",
        patches=(Patch(_LAYOUT, 'if name != "lora" and got != want:', "if False:"),),
        caught_by=("convert.recorded_sizes_count",),
    ),
    Fault(
        id="assets_looked_up_one_folder_too_high",
        bugs=("G4",),
        story="Norm stats are searched next to the step's folder instead of inside it, and are not found.",
        evidence=f"{_SCRIPT}#L536",
        patches=(
            Patch("checkpoints/norm_stats.py", "return params.parent / ASSETS", "return params.parent.parent / ASSETS"),
        ),
        caught_by=("convert.assets_go_along", "convert.missing_assets_are_announced"),
    ),
    Fault(
        id="norm_stats_copied_unread",
        story="Norm stats are copied as any file is: a web page, NaN, or none of the quantiles that the family takes.",
        evidence=f"{_OPENPI}/issues/849",
        patches=(Patch("checkpoints/norm_stats.py", "for problem in _problems(file, family):", "for problem in ():"),),
        caught_by=("convert.wrong_norm_stats_are_announced",),
    ),
    Fault(
        id="family_not_asked_about_norm_stats",
        story="Norm stats without quantiles pass for a pi0.5, which normalizes by nothing else.",
        evidence=f"{_OPENPI}/pull/971",
        patches=(
            Patch(
                "checkpoints/norm_stats.py",
                "family if family in FAMILIES else None",
                '"pi0"',
            ),
        ),
        caught_by=("convert.wrong_norm_stats_are_announced",),
    ),
    Fault(
        id="conversion_overwrites",
        story="Whatever exists at the output path is deleted.",
        evidence=f"{_SCRIPT}#L538-L541",
        patches=(
            Patch("storage/atomic.py", "if out.exists() or out.is_symlink():", "if out.is_file():"),
            Patch(
                "storage/atomic.py",
                "(scratch / _WHOLE).rename(out)",
                "shutil.rmtree(out, ignore_errors=True)\n        (scratch / _WHOLE).rename(out)",
            ),
        ),
        caught_by=("convert.nothing_is_overwritten",),
    ),
    Fault(
        id="conversion_written_in_place",
        story="The output is written directly to its final path, so a failed conversion leaves half of it.",
        evidence=f"{_SCRIPT}#L530",
        patches=(
            Patch("storage/atomic.py", "yield scratch / _WHOLE", "yield out"),
            Patch(
                "storage/atomic.py", "        refuse_to_overwrite(out)\n        (scratch / _WHOLE).rename(out)\n", ""
            ),
        ),
        caught_by=("convert.failed_conversion_leaves_nothing",),
    ),
    Fault(
        id="conversion_does_not_compare_sizes",
        bugs=("G10",),
        story="Sizes come from the config without checking the checkpoint, and an index overflows halfway.",
        evidence=f"{_SCRIPT}#L476-L503",
        patches=(Patch("layouts/write.py", "model.require_fit(dict(source.leaves))", "pass"),),
        caught_by=("convert.other_sizes_are_refused",),
    ),
    Fault(
        id="conversion_ignores_layout",
        bugs=("G6",),
        story="The requested layout is validated last, after minutes of reading.",
        evidence=f"{_SCRIPT}#L525-L527",
        patches=(
            Patch(
                "checkpoints/convert.py",
                "    target = TARGETS[writable(layout)]\n",
                "    target = TARGETS.get(layout, next(iter(TARGETS.values())))\n",
            ),
        ),
        caught_by=("convert.unknown_layout_is_refused_first",),
    ),
    Fault(
        id="paligemma_loses_its_adapters",
        bugs=("G1",),
        story="A PaliGemma part is written without its adapters and behaves like the base.",
        evidence=f"{_OPENPI}/issues/958",
        patches=(
            Patch(
                "checkpoints/convert.py",
                "return adapter is None or target.holds(adapter.weight)",
                "return target.holds(path)",
            ),
        ),
        caught_by=("convert.adapters_of_paligemma_are_refused",),
    ),
    Fault(
        id="npz_has_bfloat16_as_integers",
        bugs=("C7",),
        story="bfloat16 is written as two-byte integers, which readers take for weights of up to 65535.",
        evidence="big_vision/utils.py:827 knows bfloat16 by its type, two raw bytes",
        patches=(Patch("layouts/paligemma_npz.py", 'return "<V2" if', 'return "<u2" if'),),
        caught_by=("convert.paligemma_part_lands",),
    ),
    Fault(
        id="paligemma_under_names_of_one_version",
        bugs=("F6",),
        story="The file uses the newest transformers names, which older versions do not find.",
        evidence="https://github.com/huggingface/lerobot/issues/1406",
        patches=(
            Patch(
                "layouts/torch/hugging_face.py",
                'NAMINGS["transformers before 4.52"]',
                'NAMINGS["transformers from 5.6"]',
            ),
        ),
        caught_by=("convert.paligemma_part_lands",),
    ),
    Fault(
        id="conversion_hides_what_is_missing",
        story="A checkpoint that is not whole is refused, but nobody learns what to look for.",
        evidence="mutation: leaves out the list of names",
        patches=(Patch("layouts/verdict.py", '{self._what_is_wrong()}\\n{lines}"', '{self._what_is_wrong()}"'),),
        caught_by=("convert.incomplete_checkpoint_is_not_converted",),
    ),
    Fault(
        id="conversion_loses_strays",
        story="A value head that the layout has no place for is left out of the file without a word.",
        evidence=f"{_SCRIPT}#L395-L470",
        patches=(Patch("checkpoints/convert.py", "    if homeless and not drop:\n", "    if False:\n"),),
        caught_by=("convert.stray_is_not_lost",),
    ),
)
