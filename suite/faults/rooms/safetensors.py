"""Faults in reading safetensors files and indexes: whatever they say is trusted."""

from suite.faults.fault import Fault, Patch

_FILE = "layouts/torch/safetensors_file.py"
_FOLDER = "layouts/torch/safetensors_folder.py"

FAULTS = (
    Fault(
        id="safetensors_bfloat16_read_as_float16",
        story="The two bytes of a bfloat16 are read as float16.",
        evidence="https://github.com/google/tunix/blob/main/tunix/models/safetensors_loader.py#L97-L126",
        patches=(Patch(_FILE, '"BF16": np.dtype(ml_dtypes.bfloat16)', '"BF16": np.dtype(np.float16)'),),
        caught_by=(
            "fit.casts_exactly",
            "mapping.formats_agree",
        ),
    ),
    Fault(
        id="safetensors_offsets_ignored",
        story="Tensors are read in the order of their names, wherever the header places them.",
        evidence="A mutation: right for every file whose writer sorted the names.",
        patches=(
            Patch(
                _FILE,
                "    tensors = {name: _tensor(path, name, entry, start) for name, entry in header.items()}\n",
                "    tensors, at = {}, start\n"
                "    for name, entry in sorted(header.items()):\n"
                "        leaf, begin, end = _tensor(path, name, entry, start)\n"
                "        tensors[name] = Tensor(leaf, at, at + end - begin)\n"
                "        at += end - begin\n",
            ),
        ),
        caught_by=(
            "safetensors.packing_means_nothing",
            "safetensors.files_of_the_cache_are_read",
            "damage.is_refused",
            "hugging_face.lands_leaf_by_leaf",
            "fit.fills_the_model",
            "fit.casts_exactly",
            "hugging_face.each_tensor_has_its_place",
            "hugging_face.heads_keep_their_order",
            "fit.either_name_of_the_tied_table_is_enough",
            "hugging_face.added_tokens_are_not_loaded",
            "mapping.formats_agree",
        ),
    ),
    Fault(
        id="safetensors_overlaps_accepted",
        story="Tensors may overlap or end before the file does.",
        evidence="A mutation: the format's own reader refuses both, https://github.com/huggingface/safetensors#format.",
        patches=(Patch(_FILE, "    _require_whole(path, tensors, start, size)\n", ""),),
        caught_by=("damage.is_refused",),
    ),
    Fault(
        id="safetensors_index_leads_out",
        story="A shard that the index places outside the folder is opened.",
        evidence="https://cwe.mitre.org/data/definitions/22.html",
        patches=(
            Patch(_FOLDER, "if not isinstance(file, str) or not _is_plain(file):", "if not isinstance(file, str):"),
        ),
        caught_by=("safety.shard_outside_is_refused",),
    ),
    Fault(
        id="safetensors_tensor_in_two_shards",
        story="If two shards have a tensor, the index decides, and shards may contain anything else.",
        evidence="A mutation: shards of two saves in one folder.",
        patches=(Patch(_FOLDER, "        _require_agreement(path, shards, weight_map)\n", ""),),
        caught_by=("safetensors.damaged_index_is_refused",),
    ),
    Fault(
        id="safetensors_links_refused",
        story="A checkpoint of symbolic links is refused, so nothing in Hugging Face's cache can be read.",
        evidence="A mutation: a safety rule that is too strict for how the cache is made.",
        patches=(
            Patch(
                _FOLDER,
                "    file = _entry(path) if path.is_dir() else path\n",
                "    file = _entry(path) if path.is_dir() else path\n"
                "    if file.is_symlink():\n"
                '        raise CheckpointError(f"{file}: is a symbolic link")\n',
            ),
        ),
        caught_by=("safetensors.files_of_the_cache_are_read",),
    ),
)
