"""What is read of a tree without orbax is what orbax reads of it."""

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from fixtures.golden_cases import GOLDEN
from fixtures.old_checkpoints import CHECKPOINTS, FOLDER
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax.item import StoredLeaf, item_metadata, naming_damage, tree_entries

PARAMS = sorted(path.parent for path in GOLDEN.rglob("_METADATA"))


class Pair(NamedTuple):
    """A node that is neither a dictionary nor a list."""

    left: Any
    right: Any


def as_orbax_reads(folder: Path) -> tuple[Any, Any]:
    """The tree and the custom metadata by orbax's own handler, its leaves in this library's form."""
    found = ocp.PyTreeCheckpointHandler().metadata(folder)
    return ours(found.tree), found.custom_metadata


def ours(node: Any) -> Any:
    """A node of orbax's tree, arrays as ``StoredLeaf``."""
    if isinstance(node, dict):
        return {key: ours(child) for key, child in node.items()}
    if isinstance(node, list):
        return [ours(child) for child in node]
    if isinstance(node, ocp.metadata.value.StringMetadata):
        return "string"
    return node if node is None else StoredLeaf(tuple(node.shape), np.dtype(node.dtype))


def without_chunks(node: Any) -> Any:
    """The tree that was read here without the shapes of chunks, which orbax does not have of every kind."""
    if isinstance(node, StoredLeaf):
        return node._replace(chunk=None)
    if isinstance(node, dict):
        return {key: without_chunks(child) for key, child in node.items()}
    return [without_chunks(child) for child in node] if isinstance(node, list) else node


def assert_read_as_by_orbax(folder: Path) -> None:
    """Tree and custom metadata are orbax's."""
    found, (tree, custom) = item_metadata(folder), as_orbax_reads(folder)
    assert without_chunks(found.tree) == tree
    assert found.custom_metadata == custom


@pytest.mark.parametrize("folder", PARAMS, ids=lambda folder: folder.parent.name)
def test_golden_checkpoints_are_read_as_by_orbax(folder: Path) -> None:
    """Every golden checkpoint has the tree that orbax finds."""
    assert_read_as_by_orbax(folder)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_what_old_orbax_wrote_is_read_as_by_orbax(name: str) -> None:
    """Neither the store nor the metadata of old versions make a difference."""
    assert_read_as_by_orbax(FOLDER / name)


@pytest.mark.parametrize("use_zarr3", [False, True], ids=["zarr2", "zarr3"])
@pytest.mark.parametrize("use_ocdbt", [False, True], ids=["folders", "one_store"])
def test_any_tree_is_read_as_by_orbax(tmp_path: Path, use_ocdbt: bool, use_zarr3: bool) -> None:
    """Arrays, scalars, text, empty nodes, lists, tuples and optimizer states keep their places."""
    params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2, jnp.bfloat16)}
    item = {
        "params": params,
        "opt_state": optax.adamw(1e-3).init(params),
        "host": np.ones((2, 3), np.float16),
        "flags": np.ones(3, bool),
        "scalar": jnp.zeros((), jnp.int32),
        "number": 3,
        "share": 2.5,
        "typed": np.float32(1),
        "text": "hello",
        "nothing": None,
        "empty": {},
        "list": [jnp.ones(1), {"a": jnp.ones(2)}, None, *(jnp.ones(n) for n in range(1, 10))],
        "pair": Pair(jnp.ones(1), 2),
        "a/b": {"c.d": jnp.ones(4)},
        "10": jnp.ones(1),
    }
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=use_ocdbt, use_zarr3=use_zarr3)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(tmp_path / "item", args=ocp.args.PyTreeSave(item=item, custom_metadata={"note": [1, 2]}))
    assert_read_as_by_orbax(tmp_path / "item")


def test_a_tree_that_is_one_array_is_read_as_by_orbax(tmp_path: Path) -> None:
    """Nothing but one list of arrays, as an optimizer state may be."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        checkpointer.save(tmp_path / "item", args=ocp.args.PyTreeSave(item=[jnp.ones(2), jnp.zeros(3)]))
    assert_read_as_by_orbax(tmp_path / "item")


@pytest.mark.parametrize("text", ["[]", "{", "{}", '{"tree_metadata": {"a": 1}}', '{"tree_metadata": 3}'])
def test_metadata_that_are_damaged_are_rejected_by_name(tmp_path: Path, text: str) -> None:
    """Whatever is in the file, the error names the folder."""
    (tmp_path / "_METADATA").write_text(text)
    with pytest.raises(CheckpointError, match=f"^{tmp_path}.*_METADATA: is no metadata of orbax"):
        tree_entries(tmp_path)
    with pytest.raises(CheckpointError, match=f"^{tmp_path}: the checkpoint is damaged"), naming_damage(tmp_path):
        item_metadata(tmp_path)
