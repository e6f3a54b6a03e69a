"""The pytest plugin from the outside: toy contracts run on toy harnesses, in runs of their own, without jax."""

import gc
import json
import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from fixtures.golden_cases import GOLDEN, find_cases
from suite.faults import all_faults
from suite.subjects.protocol import Subject

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "reports/schema/rows.schema.json").read_text())

HARNESS = """
from pathlib import Path

NAME = Path(__file__).stem
TRAITS = ("lora", "pi0")

def describe():
    return {"version": "1.2"}

def init(model, seed):
    with open(f"{NAME}.seeds", "a") as file:
        print(seed, file=file)
    return {"a/w": seed}
"""

CONTRACTS = '''
import pytest
from hypothesis import given, strategies as st
from suite.session.registry import contract

@pytest.fixture
def broken():
    raise OSError("disk is full")

@contract(source="Newton", needs=("init", "lora"))
@pytest.mark.parametrize("height", ["low", "high"])
def test_apples_fall(subject, height):
    """Apples fall."""
    assert subject.init({}, 1) == {"a/w": 1}

@contract(source="Newton", needs=("init",))
def test_pears_fall(subject):
    """Pears fall."""
    assert subject.init({}, 1) == {}, "expected nothing\\nfound a/w"

@contract(source="Newton", needs=("init", "save", "fold"))
def test_birds_fly(subject):
    """Birds fly."""

@contract(source="Newton", needs=())
def test_plums_fall(subject, broken):
    """Plums fall."""

@contract(source="Newton", needs=("init",))
@given(seed=st.integers())
def test_all_fruit_falls(subject, seed):
    """All fruit falls."""
    subject.init({}, seed)

@pytest.fixture
def messy():
    yield
    raise OSError("cannot clean up")

@contract(source="Newton", needs=())
def test_leaves_fall(subject, messy):
    """Leaves fall."""

@contract(source="Newton", needs=())
def test_stops_here(subject):
    """Nobody waits for the end."""
    pytest.exit("enough")

@contract(source="openpi", needs=())
def test_golden(subject, golden_case):
    """Golden cases are asked."""

@contract(source="openpi", needs=())
def test_golden_training(subject, golden_case, golden_training):
    """Golden trainings are asked."""

@contract(source="openpi", needs=())
def test_fast(subject, fast_golden_case):
    """Cases of pi0-FAST are asked apart."""

@contract(source="openpi", needs=())
def test_files(subject, any_golden_case):
    """Cases of every family are asked."""

def test_that_is_no_contract():
    pass
'''


@pytest.fixture
def toys(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a folder with toy contracts and the harnesses of two subjects."""
    pytester.makepyfile(test_sky=CONTRACTS, toy=HARNESS, other_toy=HARNESS)
    shutil.copy(pytester.path / "toy.py", pytester.path / "my-toy.py")
    return pytester


def ask(toys: pytest.Pytester, *args: str) -> pytest.RunResult:
    """Run the toy contracts with `--results results.jsonl`."""
    return toys.runpytest_inprocess("-p", "suite.session.plugin", "--results", "results.jsonl", *args)


def records(toys: pytest.Pytester) -> list[dict[str, Any]]:
    """Return every line of the results file, each validated."""
    lines = [json.loads(line) for line in (toys.path / "results.jsonl").read_text().splitlines()]
    for line in lines:
        jsonschema.Draft202012Validator(SCHEMA).validate(line)
    return lines


def rows(toys: pytest.Pytester) -> list[dict[str, Any]]:
    """Return the rows of the results file."""
    return [record for record in records(toys) if record["kind"] == "row"]


def imported_by(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has imported after a statement."""
    code = f"{statement}; import sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split())


def test_every_outcome_is_a_row(toys: pytest.Pytester) -> None:
    """Every contract and case has a row with its outcome and, if it did not pass, the reason."""
    result = ask(toys, "--subject", "./toy.py", "-k", "fall or fly or no_contract")
    found = rows(toys)
    outcomes = {(row["contract"], row["case"]): (row["outcome"], row["message"]) for row in found}
    assert [row["contract"] for row in found if "severity" in row] == ["sky.pears_fall"]
    assert outcomes == {
        ("sky.apples_fall", "low"): ("pass", ""),
        ("sky.apples_fall", "high"): ("pass", ""),
        ("sky.pears_fall", ""): ("fail", "AssertionError: expected nothing found a/w"),
        ("sky.birds_fly", ""): ("absent", "does not declare save, fold"),
        ("sky.plums_fall", ""): ("error", "OSError: disk is full"),
        ("sky.all_fruit_falls", ""): ("pass", ""),
        ("sky.leaves_fall", ""): ("error", "OSError: cannot clean up"),
    }
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_rows_name_contract_and_subject(toys: pytest.Pytester) -> None:
    """The header has the subjects, each row has law and source, and a footer counts the rows."""
    ask(toys, "--subject", "./toy.py", "-k", "apples")
    header, row, *_, footer = records(toys)
    assert header["subjects"] == [{"name": "toy", "capabilities": ["init", "lora", "pi0"], "version": "1.2"}]
    assert [row[key] for key in ("law", "source", "subject")] == ["Apples fall.", "Newton", "toy"]
    assert footer == {"kind": "footer", "rows": 2, "outcomes": {"pass": 2}}


def test_summary_explains_absent_cases(toys: pytest.Pytester) -> None:
    """The terminal summary has a table, the reason for every absence and every broken law."""
    result = ask(toys, "--subject", "./toy.py", "-k", "fall or fly")
    result.stdout.fnmatch_lines([
        "subject toy",
        "total * 6 * 7 * 3 * 1 * 1 * 2 *",
        "not run: 1 case, does not declare save, fold",
        "fail, silent: sky.pears_fall Pears fall. (AssertionError: expected nothing found a/w)",
        "error: sky.plums_fall Plums fall. (OSError: disk is full)",
    ])  # fmt: skip


def test_stopped_run_is_truncated(toys: pytest.Pytester) -> None:
    """A run that is stopped early leaves a results file without a footer."""
    ask(toys, "--subject", "./toy.py", "-k", "apples or stops or golden")
    assert records(toys)[-1]["kind"] == "row"


def test_subjects_see_the_same_examples(toys: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the ci profile, Hypothesis gives all subjects of a run the same examples."""
    monkeypatch.setenv("HYPOTHESIS_PROFILE", "ci")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    subjects = ["--subject", "./toy.py", "--subject", "./other_toy.py"]
    # A subprocess, since the profile is a setting of the whole process.
    result = toys.runpytest_subprocess("-p", "suite.session.plugin", *subjects, "-k", "all_fruit")
    result.assert_outcomes(passed=2)
    seeds, others = ((toys.path / f"{name}.seeds").read_text().split() for name in ("toy", "other_toy"))
    assert len(set(seeds)) > 10
    assert seeds == others


def test_every_subject_gets_every_case(toys: pytest.Pytester) -> None:
    """Two subjects of one run get the same cases, in separate rows."""
    ask(toys, "--subject", "./toy.py", "--subject", "./other_toy.py", "-k", "apples")
    cases = sorted((row["subject"], row["case"]) for row in rows(toys))
    assert cases == [(name, case) for name in ("other_toy", "toy") for case in ("high", "low")]


def test_a_case_id_has_no_subject_name(toys: pytest.Pytester) -> None:
    """A case has the same id for every subject, even one with a dash in its name."""
    ask(toys, "--subject", "./my-toy.py", "-k", "apples")
    assert [row["case"] for row in rows(toys)] == ["low", "high"]


def test_plain_tests_need_no_subject(toys: pytest.Pytester) -> None:
    """A run without contracts creates no subject, writes no results and has no summary."""
    result = ask(toys, "--subject", "nobody", "-k", "no_contract")
    result.assert_outcomes(passed=1)
    assert not (toys.path / "results.jsonl").exists()
    assert "= contracts =" not in result.stdout.str()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("refrence", "did you mean reference?"),
        ("./x.py", "x.py: no such"),
        ("fault:fold_is_per_hand", "did you mean fault:fold_is_per_head?"),
    ],
)
def test_unknown_subject_is_a_usage_error(toys: pytest.Pytester, name: str, message: str) -> None:
    """A missing subject stops the run before its first test, with one line and no traceback."""
    result = ask(toys, "--subject", name)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --subject {name}: *{message}*"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    "wrong",
    ['TRAITS = ("flying",)', "del NAME", "import nowhere"],
    ids=["unknown trait", "no name", "missing package"],
)
def test_wrong_harness_is_a_usage_error(toys: pytest.Pytester, wrong: str) -> None:
    """A harness that cannot be a subject stops the run with one line that names it, not with an internal error."""
    (toys.path / "toy.py").write_text(HARNESS + wrong)
    result = ask(toys, "--subject", "./toy.py", "-k", "apples")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --subject ./toy.py: *"])


def test_faults_are_created_one_after_another(toys: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault is created when its first test begins, and released before the next but one is created."""
    created: list[weakref.ref[Subject]] = []
    alive: list[int] = []

    def find(name: str, timeout: float) -> Subject:
        gc.collect()
        alive.append(sum(subject() is not None for subject in created))
        subject = Subject(SimpleNamespace(NAME=name, TRAITS=("lora",), describe=dict, init=lambda *_: {"a/w": 1}))
        created.append(weakref.ref(subject))
        return subject

    monkeypatch.setattr("suite.session.roster.find_subject", find)
    names = [f"fault:{fault}" for fault in list(all_faults())[:4]]
    ask(toys, *(f"--subject={name}" for name in names), "-k", "apples").assert_outcomes(passed=8)
    # The second is the reference, which describes the faults in the header of the results.
    assert alive == [0, 1, 2, 2, 2]
    assert [row["subject"] for row in rows(toys)] == [name for name in names for _ in range(2)]
    assert [subject["name"] for subject in records(toys)[0]["subjects"]] == names


def test_a_fault_that_cannot_be_created_is_an_error_of_its_tests(
    toys: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault whose import fails gives rows with an error, and the run continues."""
    toy = Subject(SimpleNamespace(NAME="reference", TRAITS=("lora",), describe=dict, init=lambda *_: {"a/w": 1}))

    def find(name: str, timeout: float) -> Subject:
        if name == "reference":
            return toy
        raise ImportError("no such module")

    monkeypatch.setattr("suite.session.roster.find_subject", find)
    ask(toys, "--subject", "fault:fold_is_per_head", "-k", "apples").assert_outcomes(errors=2)
    assert {row["outcome"] for row in rows(toys)} == {"error"}


def test_golden_cases_are_run(toys: pytest.Pytester) -> None:
    """Contracts on golden cases get all of them, and contracts on trainings those with a training."""
    ask(toys, "--subject", "./toy.py", "-k", "golden")
    cases = [case.name for case in find_cases()]
    trained = [case.name for case in find_cases() if (case / "after_3_steps.npz").is_file()]
    pairs = [(row["contract"], row["case"]) for row in rows(toys)]
    assert [case for contract, case in pairs if contract == "sky.golden"] == cases
    assert [case for contract, case in pairs if contract == "sky.golden_training"] == trained
    assert 0 < len(trained) < len(cases)


def test_golden_case_needs_its_family(toys: pytest.Pytester) -> None:
    """A subject without pi05 runs the golden cases of pi0 and not those of pi05."""
    ask(toys, "--subject", "./toy.py", "-k", "golden and not training")
    outcomes = {row["case"]: (row["outcome"], row["message"]) for row in rows(toys)}
    absent, passed = ("absent", "does not declare pi05"), ("pass", "")
    assert outcomes == {case.name: absent if "pi05" in case.name else passed for case in find_cases()}


def test_another_golden_folder_adds_its_cases(toys: pytest.Pytester) -> None:
    """The cases of another folder, relative to where pytest was started, come after the suite's own."""
    shutil.copytree(GOLDEN / "pi0_base", toys.path / "more" / "mine")
    file = toys.path / "more" / "mine" / "case.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"case": "mine"}))
    ask(toys, "--subject", "./toy.py", "--golden", "more", "-k", "golden and not training")
    assert [row["case"] for row in rows(toys)] == [*(case.name for case in find_cases()), "mine"]


def test_another_golden_folder_adds_its_fast_cases(toys: pytest.Pytester) -> None:
    """A folder with cases of both kinds gives each law those that it can use."""
    for name in ("pi0_base", "pi0_fast_base"):
        shutil.copytree(GOLDEN / name, toys.path / "more" / name)
    ask(toys, "--subject", "./toy.py", "--golden", "more", "-k", "golden and not training or fast or files")
    added = {(row["contract"], row["case"]) for row in rows(toys) if "more/" in row["case"]}
    both = {("sky.files", "more/pi0_base"), ("sky.files", "more/pi0_fast_base")}
    assert added == {("sky.golden", "more/pi0_base"), ("sky.fast", "more/pi0_fast_base"), *both}


def test_golden_folder_of_fast_cases_alone_is_enough(toys: pytest.Pytester) -> None:
    """It has no case for the laws of the other families, and is no usage error."""
    ask(toys, "--subject", "./toy.py", f"--golden={GOLDEN / 'pi0_fast_base'}", "-k", "golden and not training")
    assert [row["case"] for row in rows(toys)] == [case.name for case in find_cases()]


def test_golden_cases_of_one_name_are_told_apart_by_folder(toys: pytest.Pytester) -> None:
    """Cases that are named like a built-in one or like each other are run under the names of their folders."""
    for folder in ("one/more", "two/more", "other"):
        shutil.copytree(GOLDEN / "pi0_base", toys.path / folder / "pi0_base")
    golden = [f"--golden={folder}" for folder in ("one/more", "two/more", "other", "./other")]
    ask(toys, "--subject", "./toy.py", *golden, "-k", "golden and not training")
    names = [f"{folder}/pi0_base" for folder in ("one/more", "two/more")]
    own = [case.name for case in find_cases()]
    assert [row["case"] for row in rows(toys)] == [*own, *names, "other/pi0_base"]


def test_golden_folder_without_cases_is_a_usage_error(toys: pytest.Pytester) -> None:
    """Another folder without cases stops the run; the error names the folder."""
    (toys.path / "empty").mkdir()
    result = ask(toys, "--subject", "./toy.py", "--golden", "empty", "-k", "golden")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --golden: {toys.path / 'empty'}: no golden case here*"])


def test_contracts_can_be_listed() -> None:
    """`pytest suite/contracts --collect-only -q` lists contracts with subject and case, followed by the laws."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "suite/contracts",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    result = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert "suite/contracts/test_golden.py::test_loss[reference-pi0_base]" in lines
    assert "golden.loss: With openpi's checkpoint, batch, noise and time, the loss is openpi's." in lines


def test_plugin_is_light() -> None:
    """Importing the plugin imports neither jax nor the reference."""
    assert {"jax", "pi0_compat"}.isdisjoint(imported_by("import suite.session.plugin"))


def test_heavy_imports_are_detected() -> None:
    """The test above can fail: importing the reference's harness brings both."""
    assert {"jax", "pi0_compat"} <= imported_by("import suite.subjects.reference")
