"""The golden cases: committed files that are what openpi wrote, and a reader that takes no contradictions."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fixtures import observations, openpi_layout
from fixtures.golden_cases import GOLDEN, find_cases, read_case

FIXTURES = GOLDEN.parent
MEGABYTE = 2**20


def committed_files() -> list[Path]:
    """Every file of fixtures but what Python makes of them."""
    files = (file for file in FIXTURES.rglob("*") if file.is_file())
    return [file for file in files if "__pycache__" not in file.parts]


def edited_case(folder: Path, **changes: Any) -> Path:
    """A copy of pi0_lora with other entries in its case.json."""
    case = shutil.copytree(GOLDEN / "pi0_lora", folder / "edited")
    written = json.loads((case / "case.json").read_text())
    (case / "case.json").write_text(json.dumps(written | changes))
    return case


def test_golden_files_are_those_of_openpi() -> None:
    """Every golden file is in PROVENANCE.json with its size and sha256, and every entry there has its file."""
    recorded = json.loads((GOLDEN / "PROVENANCE.json").read_text())["files"]
    files = {file for file in committed_files() if file.is_relative_to(GOLDEN)}
    found = {
        file.relative_to(GOLDEN).as_posix(): {
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "bytes": file.stat().st_size,
        }
        for file in files - {GOLDEN / "PROVENANCE.json"}
    }
    assert found == recorded


def test_fixtures_are_small() -> None:
    """No committed fixture has more than 1 MB, all together no more than 10 MB."""
    sizes = {file: file.stat().st_size for file in committed_files()}
    assert max(sizes.values()) <= MEGABYTE
    assert sum(sizes.values()) <= 10 * MEGABYTE


@pytest.mark.parametrize("folder", find_cases(), ids=lambda folder: folder.name)
def test_case_fits_its_spec(folder: Path) -> None:
    """A case has its folder's name, a batch as fixtures write them, and a training exactly if it has adapters."""
    case = read_case(folder)
    expected = observations.batch(case.spec, size=len(case.loss))
    assert case.name == folder.name
    assert (case.checkpoint / "_METADATA").is_file()
    for name in case.batch:
        found, like = case.batch[name], expected[name]
        assert (found.shape, found.dtype) == (like.shape, like.dtype), name
    has_lora = bool(case.spec["paligemma"]["lora"] or case.spec["action_expert"]["lora"])
    assert (case.training is not None) == has_lora
    if case.training:
        assert case.training.changed <= case.training.trainable
        assert case.training.trainable <= openpi_layout.shapes(case.spec).keys()
        assert case.training.after.keys() == case.training.changed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": {}}, r"^pi0_lora: options\.lora_paligemma is True, lora\.paligemma is None"),
        ({"options": {"lora_paligemma": True}}, r"^pi0_lora: options\.lora_expert is False, "),
    ],
    ids=["no sites", "not asked for"],
)
def test_contradictory_case_is_refused(tmp_path: Path, changes: Any, message: str) -> None:
    """A case whose options ask for other adapters than it has sizes of is refused, by case, option and site."""
    with pytest.raises(ValueError, match=message):
        read_case(edited_case(tmp_path, **changes))


def test_unchanged_copy_is_read(tmp_path: Path) -> None:
    """The refusals above are for what was changed: the copy alone is read, from anywhere."""
    case = read_case(edited_case(tmp_path, case="copy"))
    assert (case.name, case.spec) == ("copy", read_case(GOLDEN / "pi0_lora").spec)


def test_cases_are_found_by_folder(tmp_path: Path) -> None:
    """A folder has the cases one level below, sorted; a case folder is its own only case; others are refused."""
    assert [case.name for case in find_cases()] == sorted(case.name for case in find_cases())
    assert find_cases(GOLDEN / "pi0_base") == [GOLDEN / "pi0_base"]
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path}: no golden case here"):
        find_cases(tmp_path)
