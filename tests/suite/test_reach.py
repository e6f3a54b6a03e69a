"""Which faults a contract cannot catch: what a fault changes, what a contract enters, and the conclusion."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.specs import tiny
from suite.faults import all_faults
from suite.mutation.changes import changed_functions, difference, functions_mentioning, modules, parts
from suite.mutation.reach import instrumented, read_reach
from suite.mutation.run import possible_pairs
from suite.subjects.patches.patched import Patch

ROOT = Path(__file__).parents[2]
SOURCE = '''
"""A module."""
from math import pi as PI
SIZE, RATE = 3, 4.0
HALF = RATE / 2

class Box:
    size: int = 2

    @property
    def area(self, depth=1):
        """Square metres."""
        return [x * x for x in self.size]

def whole(x: "int", y=None):
    def part():
        return lambda: x + 1
    return part

def half(): return HALF

def boxed(): return Box()

def circle(): return PI

def plain(): return plain.__name__
'''


@pytest.mark.parametrize(
    ("old", "new", "functions", "names"),
    [
        ("lambda: x + 1", "lambda: x - 1", {"whole"}, set()),
        ("x * x", "x + x", {"Box.area"}, set()),
        ("RATE / 2", "RATE / 3", set(), {"HALF"}),
        ("size: int = 2", "size: int = 3", set(), {"Box"}),
        ("    size: int = 2", "    size: int = 2\n    def new(self): pass", set(), {"Box"}),
        ("depth=1", "depth=2", {"Box.area"}, {"Box"}),
        ("y=None", "y=0", {"whole"}, {"whole"}),
        ('x: "int"', 'x: "float"', {"whole"}, set()),
        ("    @property\n", "", {"Box.area"}, {"Box"}),
        ("def half()", "def other()", {"half"}, {"half", "other"}),
        ("from math import pi", "from numpy import pi", set(), {"PI"}),
        ("SIZE, RATE = 3", "SIZE, RATE = 4", set(), {None}),
        ("HALF = RATE / 2", "HALF = RATE / 2\nSIZES['x'] = 1", set(), {None}),
        ("HALF = RATE", "HALF   =   RATE", set(), set()),
    ],
)
def test_a_change_is_in_functions_or_in_the_value_of_names(
    old: str, new: str, functions: set[str], names: set[str | None]
) -> None:
    assert difference(parts(SOURCE), parts(SOURCE.replace(old, new))) == (functions, names)


def test_the_same_statements_in_another_order_may_change_everything() -> None:
    assert difference(parts("a = b\nb = 2"), parts("b = 2\na = b")) == (set(), {None})


@pytest.mark.parametrize(
    ("name", "functions"),
    [
        ("HALF", {"half"}),
        ("Box", {"boxed"}),
        ("pi", {"circle"}),
        ("size", {"Box.area"}),
        ("nobody", set()),
    ],
)
def test_a_value_is_used_by_the_functions_that_mention_its_name(name: str, functions: set[str]) -> None:
    assert functions_mentioning({name}, {"m.py": parts(SOURCE)}) == frozenset(
        f"m.py:{function}" for function in functions
    )


def test_an_untraceable_name_reaches_everything() -> None:
    assert functions_mentioning({"RATE"}, {"m.py": parts("TABLE['x'] = RATE")}) is None
    assert functions_mentioning({None}, {"m.py": parts(SOURCE)}) is None


def test_names_are_followed_through_other_names_and_modules() -> None:
    other = parts("from m import RATE as SPEED\n\ndef run(): return SPEED\n\ndef walk(): return m.HALF")
    functions = functions_mentioning({"RATE"}, {"m.py": parts(SOURCE), "n.py": other})
    assert functions == frozenset({"m.py:half", "n.py:run", "n.py:walk"})


def test_a_change_at_the_top_of_the_harness_reaches_everything() -> None:
    assert changed_functions([Patch("../suite/subjects/reference.py", 'NAME = "reference"', 'NAME = "r"')]) is None


def test_most_faults_change_a_known_part_of_the_reference() -> None:
    """If this fails, contracts run on faults that they cannot catch, which costs time but no correctness."""
    changed = [changed_functions(fault.patches) for fault in all_faults().values()]
    assert all(functions is None or functions for functions in changed)
    assert changed.count(None) < len(changed) / 20
    known = {f"{file}:{name}" for file, module in modules().items() for name in module.functions}
    assert set().union(*(functions for functions in changed if functions)) <= known


def test_a_note_is_the_first_thing_a_function_does(tmp_path: Path) -> None:
    entered: list[str] = []
    source = instrumented("m.py", SOURCE).replace("from suite.mutation.reach import entered as __entered__", "")
    (tmp_path / "m.py").write_text(source)
    module = runpy.run_path(str(tmp_path / "m.py"), {"__entered__": entered.append})
    assert module["__doc__"] == "A module."
    assert module["Box"].area.__doc__ == "Square metres."
    with pytest.raises(TypeError, match="not iterable"):
        str(module["Box"]().area)
    module["whole"](1)()()
    assert entered == ["m.py:Box.area", "m.py:whole"]


def test_a_contract_enters_what_its_shared_fixtures_enter(tmp_path: Path) -> None:
    """Each contract and each fixture has a file of lines; one that failed may not have entered everything."""
    for name, text in {"fixture:there": "f\ng", "a.x": "h\nfixture:there", "a.y": "h", "a.z": "h\nfailed"}.items():
        (tmp_path / name).write_text(f"{text}\n")
    reach = read_reach(tmp_path)
    assert reach == {"a.x": frozenset("fgh"), "a.y": frozenset("h"), "a.z": None}


def test_functions_of_another_process_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file for the notes is in the environment, which child processes inherit."""
    monkeypatch.setenv("PI0_COMPAT_REACH", str(tmp_path / "a.x"))
    code = f"from suite.mutation import watched; watched.param_spec({tiny()!r})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    entered = read_reach(tmp_path)["a.x"]
    assert entered is not None
    assert {"suite/subjects/reference.py:param_spec", "pi0_compat/model/pi0_spec.py:Pi0Spec.param_spec"} <= entered
    assert "suite/subjects/reference.py:train" not in entered


def test_pairs_are_contracts_that_enter_what_the_fault_changes() -> None:
    fault = all_faults()["fold_is_per_head"]
    function = min(changed_functions(fault.patches) or ())
    reach = {"in": frozenset({function, "other"}), "out": frozenset({"other"}), "everywhere": None}
    assert possible_pairs([fault], reach) == {fault.id: ["in", "everywhere"]}


def test_a_fault_out_of_reach_of_a_contract_is_not_run_with_it(tmp_path: Path) -> None:
    """Of two faults and two contracts only one pair is possible; the other fault is not caught."""
    faults = ["--only", "describes_no_versions", "--only", "fold_is_per_head"]
    arguments = [*faults, "--write", str(tmp_path / "matrix.jsonl"), "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "suite.mutation", *arguments, "-k", "describes_itself or absence_is_loud"]
    result = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert "2 faults, 2 contracts: 1 of 4 pairs" in result.stdout
    header, *rows, _ = [json.loads(line) for line in (tmp_path / "matrix.jsonl").read_text().splitlines()]
    assert header["contracts"] == ["subject.absence_is_loud", "subject.describes_itself"]
    assert [(list(row["caught_by"]), row["passed"]) for row in rows] == [(["subject.describes_itself"], 1), ([], 2)]
    assert "nothing catches fold_is_per_head" in result.stderr
