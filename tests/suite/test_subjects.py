"""How a subject is found and called, whatever its harness."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from suite.session.find import find_subject, known_subjects, resolve
from suite.subjects.capabilities import OPERATIONS
from suite.subjects.process.harness_files import name_of
from suite.subjects.protocol import Subject, Unsupported

ROOT = Path(__file__).parents[2]
HARNESS = """
NAME = "toy"
TRAITS = ("lora",)
def describe(): return {"version": "1.2"}
def init(model, seed): return {"seed": seed}
"""


def toy(**changes: Any) -> Subject:
    """Return a subject that offers `init` only, unless changed."""
    harness = {"NAME": "toy", "TRAITS": (), "describe": dict, "init": lambda model, seed: seed}
    return Subject(SimpleNamespace(**harness | changes))


def test_operations_reach_the_harness() -> None:
    """An operation of the subject calls the harness."""
    assert toy().init({}, seed=3) == 3


@pytest.mark.parametrize("operation", sorted(OPERATIONS.keys() - {"init"}))
def test_lacking_operation_is_unsupported(operation: str) -> None:
    """An operation that the harness lacks raises Unsupported with the names of subject and operation."""
    with pytest.raises(Unsupported, match=f"^toy does not offer {operation}: "):
        getattr(toy(), operation)(1, seed=0)


def test_only_operations_are_attributes() -> None:
    """Other functions of the harness are no attributes: contracts see the protocol only."""
    with pytest.raises(AttributeError, match="secret"):
        toy(secret=lambda: 1).secret()


def test_capabilities_are_operations_and_traits() -> None:
    """Capabilities are the operations of the harness and the traits that it declares."""
    assert toy(TRAITS=("lora",), helper=len).capabilities == {"init", "lora"}


@pytest.mark.parametrize("trait", ["flying", "init"])
def test_unknown_trait_is_rejected(trait: str) -> None:
    """An unknown trait, or one with the name of an operation, is rejected with subject, trait and known traits."""
    with pytest.raises(ValueError, match=rf"^toy: unknown traits \['{trait}'\].*'pi05'"):
        toy(TRAITS=("lora", trait))


def test_description_has_name_and_capabilities() -> None:
    """A harness's description is extended by the subject's name and its sorted capabilities."""
    described = toy(TRAITS=("lora",), describe=lambda: {"version": "1.2"}).describe()
    assert described == {"name": "toy", "capabilities": ["init", "lora"], "version": "1.2"}


def test_harnesses_of_the_folder_are_known() -> None:
    """The suite's own harnesses are known by name; its other modules are not harnesses."""
    assert "reference" in known_subjects()
    assert not {"find", "protocol", "__init__"} & set(known_subjects())


def test_harness_file_becomes_a_subject(tmp_path: Path) -> None:
    """A harness is given as the path of its file, and has its own name."""
    (tmp_path / "my-harness.py").write_text(HARNESS)
    subject = find_subject(str(tmp_path / "my-harness.py"))
    assert (subject.name, set(subject.capabilities)) == ("toy", {"init", "lora"})
    assert subject.init({}, 5) == {"seed": 5}


def test_no_layer_above_is_named() -> None:
    """No module of suite.subjects names a layer above it, in a string either: what finds a harness is passed in."""
    above = re.compile(r"\bsuite[./](session|faults|mutation|contracts)\b")
    assert above.search("from suite.session.find import find_harness")
    files = list((ROOT / "suite" / "subjects").rglob("*.py"))
    assert len(files) > 20
    assert [str(file) for file in files if above.search(file.read_text())] == []


def test_a_file_declares_its_name(tmp_path: Path) -> None:
    """The name of a subject is known without importing its harness, which may need another interpreter."""
    declared, computed = tmp_path / "declared.py", tmp_path / "computed.py"
    declared.write_text(f"import no_such_package\n{HARNESS}")
    computed.write_text("import no_such_package\n")
    asked = ("openpi=python3", str(declared), f"{declared}=python3", str(computed))
    assert [name_of(name) for name in asked] == ["openpi", "toy", "toy", "computed"]


def test_asking_makes_paths_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So another process finds the same harness and interpreter from its own folder; nothing is imported."""
    (tmp_path / "mine.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    assert resolve("./mine.py") == str(tmp_path / "mine.py")
    assert resolve(f"mine.py={sys.executable}") == f"{tmp_path / 'mine.py'}={sys.executable}"
    assert resolve("reference:bf16") == "reference:bf16"


def test_missing_harness_file_is_named(tmp_path: Path) -> None:
    """A path without a file is rejected by its name."""
    with pytest.raises(LookupError, match=r"nowhere\.py: no such harness file"):
        find_subject(str(tmp_path / "nowhere.py"))


def test_unknown_name_gets_the_closest() -> None:
    """An unknown name that resembles a known one is rejected with the known one."""
    with pytest.raises(LookupError, match=r"no subject 'refrence'; did you mean reference\?"):
        find_subject("refrence")


def test_unknown_name_gets_all_names() -> None:
    """An unknown name that resembles none is rejected with all names and how to give a file."""
    with pytest.raises(LookupError, match=r"there are: .*reference.* \./my_harness\.py"):
        find_subject("zzz")
