"""The official PaliGemma npz: each array lands in its place in openpi's tree, and other PaliGemmas are named."""

import copy
from pathlib import Path

import numpy as np
import pytest

from fixtures.specs import ModelSpec
from fixtures.writers import hugging_face, paligemma_npz
from suite.contracts.load_asserts import assert_landed, assert_refused
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_close, assert_same_bits
from suite.writing.cases import from_hugging_face, from_paligemma

NEEDS = ("load", "paligemma_npz")
POSITIONS = "PaliGemma/img/pos_embedding"
EMBEDDING = "PaliGemma/llm/embedder/input_embedding"
RESAMPLED = {"resample_positions": True}


def of_size(spec: ModelSpec, name: str, size: int) -> ModelSpec:
    """Return a copy of the spec with another value of ``name``, such as ``vocab_size`` or ``image_size``."""
    other = copy.deepcopy(spec)
    other[name] = size  # type: ignore[literal-required]
    return other


def ramp(spec: ModelSpec) -> np.ndarray:
    """Return position embeddings that increase linearly over the rows of patches, and by another slope over columns.

    The result is float32[1, patches, width].
    """
    side, width = spec["image_size"] // spec["siglip"]["patch_size"], spec["siglip"]["width"]
    rise, rise_by_column = np.random.default_rng(0).normal(size=(2, width))
    rows, columns = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side), indexing="ij")
    grid = rows[..., None] * rise + columns[..., None] * rise_by_column + 0.5
    return grid.reshape(1, side * side, width).astype(np.float32)


@contract(source="docs/bugs.md#c11: shapes alone do not explain the error", needs=NEEDS)
@pytest.mark.parametrize(
    ("part", "size", "mentions"),
    [
        ("vocab_size", 601, (EMBEDDING, "vocabulary", "601", "509")),
        ("image_size", 56, (POSITIONS, "pixels", "56", "28", "resample_positions")),
        ("paligemma", 64, (EMBEDDING, "width", "64", "56")),
    ],
    ids=["vocabulary", "image_size", "width"],
)
def test_other_sizes_are_named(
    subject: Subject, base_spec: ModelSpec, tmp_path: Path, part: str, size: int, mentions: tuple[str, ...]
) -> None:
    """A PaliGemma with another vocabulary, image size or width is refused with both sizes, in words."""
    of_file = of_size(base_spec, part, size)
    if part == "paligemma":
        of_file = of_size(base_spec, part, base_spec["paligemma"] | {"width": size})  # type: ignore[arg-type]
    paligemma_npz.build(of_file, tmp_path / "pt_224.npz")
    assert_refused(subject, base_spec, from_paligemma(tmp_path / "pt_224.npz"), *mentions)


@contract(source="big_vision models/vit.py resample_posemb", needs=(*NEEDS, "resampling"))
@pytest.mark.parametrize(("of_file", "of_model"), [(56, 28), (28, 42)], ids=["to_fewer", "to_more"])
def test_positions_are_resampled_when_asked(
    subject: Subject, base_spec: ModelSpec, tmp_path: Path, of_file: int, of_model: int
) -> None:
    """On request, position embeddings are resampled to the model's patches; a linear ramp stays a linear ramp."""
    path, model = tmp_path / "pt_448.npz", of_size(base_spec, "image_size", of_model)
    release = of_size(base_spec, "image_size", of_file)
    written = paligemma_npz.contents(release) | {POSITIONS: ramp(release)}
    paligemma_npz.write(written, path)
    params = subject.load(model, from_paligemma(path) | RESAMPLED, seed=0)["params"]
    assert_close(params[POSITIONS], ramp(model), atol=1e-6, name=POSITIONS)
    assert_landed(params, {path: array for path, array in written.items() if path != POSITIONS})


@contract(source="big_vision models/vit.py resample_posemb: bilinear, corners kept", needs=(*NEEDS, "resampling"))
def test_new_positions_lie_between_old_ones(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """From 2 x 2 to 3 x 3 patches, the corners stay the same and the new positions are means of their neighbors."""
    model = of_size(base_spec, "image_size", 42)
    corners = paligemma_npz.build(base_spec, tmp_path / "pt_224.npz")[POSITIONS].reshape(2, 2, -1)
    params = subject.load(model, from_paligemma(tmp_path / "pt_224.npz") | RESAMPLED, seed=0)["params"]
    grid = params[POSITIONS].reshape(3, 3, -1)
    assert_same_bits({"corners": grid[::2, ::2]}, {"corners": corners})
    for new, neighbors in ((grid[1, 1], corners), (grid[0, 1], corners[0]), (grid[1, 0], corners[:, 0])):
        assert_close(new, neighbors.reshape(-1, new.size).mean(axis=0), atol=1e-6)


@contract(source="docs/bugs.md#rule-5", needs=(*NEEDS, "resampling", "load_report"))
def test_resampling_is_reported(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """The report lists resampled position embeddings as resampled; if the size fits, the request changes nothing."""
    path = tmp_path / "pt_224.npz"
    for image_size, status in ((56, "resampled"), (28, "loaded")):
        written = paligemma_npz.build(of_size(base_spec, "image_size", image_size), path)
        loaded = subject.load(base_spec, from_paligemma(path) | RESAMPLED, seed=0)
        assert loaded["report"][POSITIONS] == status
    assert_landed(loaded["params"], written)


@contract(source="docs/bugs.md#c11", needs=(*NEEDS, "resampling"))
def test_positions_that_are_no_grid_are_refused(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """Position embeddings whose number is not a square are refused even on request: their positions are unknown."""
    params = paligemma_npz.contents(base_spec)
    paligemma_npz.write(params | {POSITIONS: params[POSITIONS][:, :3].copy()}, tmp_path / "pt_224.npz")
    source = from_paligemma(tmp_path / "pt_224.npz")
    assert_refused(subject, base_spec, source, POSITIONS)
    assert_refused(subject, base_spec, source | RESAMPLED, POSITIONS)


@contract(source="the same release, in two formats", needs=(*NEEDS, "hugging_face", "resampling"))
def test_formats_agree(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """Google's npz and Hugging Face's safetensors of one release give the same model, even with resampled positions."""
    release = of_size(base_spec, "image_size", 56)
    paligemma_npz.build(release, tmp_path / "pt_448.npz", dtype="bfloat16")
    hugging_face.build(release, tmp_path / "release", dtype="bfloat16")
    sources = from_paligemma(tmp_path / "pt_448.npz"), from_hugging_face(tmp_path / "release")
    from_npz, from_safetensors = (subject.load(base_spec, source | RESAMPLED, seed=0)["params"] for source in sources)
    assert_same_bits(from_safetensors, from_npz)
