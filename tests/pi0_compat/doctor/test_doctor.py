"""``pi0-compat doctor``: versions, probes and exit status, against interpreters that answer as they are made to."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pi0_compat.cli import main as cli
from pi0_compat.doctor import diagnose as module
from pi0_compat.doctor.diagnose import InterpreterError, diagnose
from pi0_compat.doctor.table import PACKAGES, Fault, faults, release

PROBES = Path(module.__file__).parent / "probes"
Make = Callable[..., Path]


@pytest.fixture
def interpreter(tmp_path: Path) -> Make:
    """Return a function that makes a program which answers as an interpreter with these packages would."""

    def make(packages: dict[str, str], *, probes: str = "echo wrong") -> Path:
        program = tmp_path / "python"
        answer = json.dumps({"python": "3.12.0", "packages": packages})
        program.write_text(f"#!/bin/sh\nif [ \"$1\" = -c ]; then echo '{answer}'; else {probes}; fi\n")
        program.chmod(0o755)
        return program

    return make


def test_a_probed_fault_applies_if_the_probe_shows_it(interpreter: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, with what goes wrong and what to do; other packages' faults are not mentioned."""
    program = interpreter({"safetensors": "0.8.0", "numpy": "2.4.6"})
    assert cli.main(["doctor", str(program)]) == 1
    assert capsys.readouterr().out == (
        f"{program}: Python 3.12.0\n"
        "  safetensors 0.8.0, numpy 2.4.6\n"
        "1 known fault that no error tells of\n"
        "  ! safetensors 0.8.0, by probe: `safetensors.numpy.save_file` writes a transposed or Fortran-ordered array "
        "in memory order: other values under the same shape\n"
        "    to do: pass `numpy.ascontiguousarray(x)`, or install safetensors 0.7\n"
    )


def test_a_probe_decides_against_the_version(interpreter: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """A version in the range whose probe is right has no fault: exit status 0."""
    program = interpreter({"safetensors": "0.8.1"}, probes="echo right")
    assert cli.main(["doctor", str(program)]) == 0
    assert capsys.readouterr().out.endswith("no known fault applies\n")


def test_a_version_decides_without_a_probe(interpreter: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault without a probe applies in its versions, and in no other."""
    plain = next(fault for fault in faults() if fault.package == "gemma")._replace(probe="")
    monkeypatch.setattr(module, "faults", lambda: [plain])
    found = diagnose(interpreter({"gemma": "4.0.1"}))
    assert [(finding.fault.id, finding.answer, finding.reason) for finding in found.findings] == [
        ("gemma-4-norm", "applies", "version")
    ]
    assert diagnose(interpreter({"gemma": "3.3.0"})).findings == ()


@pytest.mark.parametrize(
    ("probes", "words"),
    [
        ("echo broken >&2; exit 3", "the probe failed (broken)"),
        ("exit 3", "the probe failed (exit status 3)"),
        ("echo perhaps", "the probe answered 'perhaps'"),
    ],
)
def test_a_probe_that_fails_is_no_verdict(
    interpreter: Make, capsys: pytest.CaptureFixture[str], probes: str, words: str
) -> None:
    """A probe that cannot run leaves its fault unknown, and says so."""
    program = interpreter({"safetensors": "0.8.0"}, probes=probes)
    assert cli.main(["doctor", str(program)]) == 0
    assert f"  ? safetensors 0.8.0: safetensors-transposed: {words}\n" in capsys.readouterr().out


def test_the_document_has_every_fault(interpreter: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--json` a fault has its answer, reason and source."""
    assert cli.main(["doctor", str(interpreter({"gemma": "4.0.1"})), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["versions"] == {"gemma": "4.0.1"}
    (fault,) = document["faults"]
    assert (fault["id"], fault["answer"], fault["reason"]) == ("gemma-4-norm", "applies", "probe")
    assert {"package", "version", "what", "todo", "source"} <= fault.keys()


@pytest.mark.parametrize("content", [None, "#!/bin/sh\necho hello\n", "#!/bin/sh\nexit 7\n"])
def test_no_interpreter_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None) -> None:
    """A path that leads to no Python is refused with what to pass."""
    program = tmp_path / "python"
    if content:
        program.write_text(content)
        program.chmod(0o755)
    assert cli.main(["doctor", str(program)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"pi0-compat doctor: {program}: expected a Python interpreter, but it does not answer as one ("
    )
    assert error.endswith("); pass the path of its program, such as .venv/bin/python\n")
    with pytest.raises(InterpreterError):
        diagnose(program)


def test_the_own_interpreter_answers() -> None:
    """Without an argument the interpreter of the command is asked; its numpy is there."""
    found = diagnose()
    assert found.interpreter == sys.executable
    assert {"numpy", "ml_dtypes"} <= found.versions.keys()
    assert all(finding.answer != "unknown" for finding in found.findings), found.findings


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.id)
def test_a_row_is_whole(fault: Fault) -> None:
    """A row names a package that is asked for, a version range, what goes wrong, what to do, and what was run."""
    assert fault.package in PACKAGES
    assert all(re.fullmatch(r"(>=|<|==)[\d.]+", bound) for bound in fault.versions.split(","))
    assert fault.what
    assert fault.todo
    assert re.search(r"\brun\b.*\d+\.\d+", fault.source)
    if fault.probe:
        compile((PROBES / f"{fault.probe}.py").read_text(), fault.probe, "exec")


def test_every_probe_is_of_a_row() -> None:
    """No probe is left without its fault, and no fault has another's name."""
    known = faults()
    assert {path.stem for path in PROBES.glob("[!_]*.py")} == {fault.probe for fault in known if fault.probe}
    assert len({fault.id for fault in known}) == len(known)


@pytest.mark.parametrize(
    ("versions", "version", "expected"),
    [
        (">=0.5,<0.7", "0.5.3", True),
        (">=0.5,<0.7", "0.7.0", False),
        (">=0.5,<0.7", "0.4.38", False),
        (">=0.8.0", "0.8", True),
        (">=2.12", "2.13.0+cpu", True),
        ("==0.8.0", "0.8.1", False),
        (">=4", "4.0.0rc1", True),
        (">=4", "unknown", False),
    ],
)
def test_versions_are_compared_by_number(versions: str, version: str, expected: bool) -> None:
    """Ranges compare numbers, not text; local and pre-release parts do not count."""
    assert faults()[0]._replace(versions=versions).is_in(version) == expected
    assert release("0.12.10") > release("0.12.8")


def test_a_probe_runs_alone(tmp_path: Path) -> None:
    """A probe needs nothing of this package, and writes below its folder alone."""
    probe = PROBES / "ml_dtypes_double_rounding.py"
    done = subprocess.run(
        [sys.executable, "-I", probe, tmp_path], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() in ("right", "wrong")
    assert not list(tmp_path.iterdir())
