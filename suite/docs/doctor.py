"""``docs/doctor.md``: the table of known silent faults, from the file that ``pi0-compat doctor`` reads."""

from pi0_compat.doctor.table import Fault, faults

_INTRODUCTION = """\
# Silent faults of other libraries

<!-- Written by `python -m suite.docs` from pi0_compat/doctor/faults.toml. Edit that. -->

`pi0-compat doctor [PYTHON]` shows the versions of an interpreter's libraries and which of these faults they have. Where
there is a probe, it decides: a small program that runs in that interpreter, in a temporary folder.

| package | versions | what goes wrong | what to do | decided by | source |
|---|---|---|---|---|---|
"""


def page() -> str:
    """Return the text of ``docs/doctor.md``."""
    return _INTRODUCTION + "".join(_row(fault) for fault in faults())


def _row(fault: Fault) -> str:
    decided = "probe" if fault.probe else "version"
    cells = (fault.package, f"`{fault.versions}`", fault.what, fault.todo, decided, fault.source)
    return f"| {' | '.join(cells)} |\n"
