"""The subjects of a run, as selected by the options and created when needed, with their known failures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from suite.session import expectations
from suite.session.expectations import Expectation
from suite.session.find import find_subject, is_fault, known_subjects
from suite.session.results import without_folders
from suite.subjects.process.harness_files import foreign_names, parse
from suite.subjects.protocol import Subject, UnavailableError

ALL = "all"
_DEFAULT = "reference"


class Roster:
    """The subjects of a run, by their value of ``--subject`` (``asked_as``).

    Args:
      names: every ``--subject``. ``all`` stands for all subjects that come with the suite; of these, one that cannot be
        created is reported as unavailable instead of stopping the run.
      required: names that have to be available even so.
      files: additional expectations, each file named after its subject.
      timeout: time limit in seconds for one operation in another process.

    Raises:
      pytest.UsageError: a subject is given twice, a required one is not selected, or a file does not exist.
    """

    def __init__(self, names: Sequence[str], required: Sequence[str], files: Sequence[Path], timeout: float) -> None:
        selected = {parse(name)[0]: name for name in names or [_DEFAULT]}
        if len(selected) < len(set(names)):
            raise pytest.UsageError(f"--subject: one of {', '.join(names)} is given twice")
        # Subjects that may be unavailable without stopping the run.
        self._optional = {name for name in known_subjects() if ALL in selected and name not in (*selected, *required)}
        if selected.pop(ALL, None):
            selected = {name: selected.get(name, name) for name in (*known_subjects(), *selected)}
        if missing := [name for name in required if name not in selected]:
            raise pytest.UsageError(
                f"--require-subject {missing[0]}: not selected; add --subject {missing[0]}[=PYTHON]"
            )
        if missing_files := [file for file in files if not file.is_file()]:
            raise pytest.UsageError(f"--expectations {missing_files[0]}: no such file")
        self.names = list(selected.values())
        self._files, self._timeout = files, timeout
        self._created: dict[str, Subject] = {}
        self._unavailable: dict[str, str] = {}
        self._expected: dict[str, tuple[Expectation, ...]] = {}

    def make(self) -> None:
        """Create every subject and read its expectations. For faults, only check that they exist."""
        for name in self.names:
            if not is_a_fault(name) and self.unavailable(name) is None:
                self.get(name)
                self.expected(name)

    def get(self, asked_as: str) -> Subject:
        """Return a subject, created on first use. Release the processes of all others, and the previous fault."""
        if asked_as not in self._created:
            for fault in [other for other in self._created if is_a_fault(other) and is_a_fault(asked_as)]:
                del self._created[fault]
            with as_usage_errors(asked_as):
                self._created[asked_as] = find_subject(asked_as, timeout=self._timeout)
        for other in self._created.keys() - {asked_as}:
            self._created[other].rest()
        return self._created[asked_as]

    def rest(self) -> None:
        """End the processes of all subjects; each is restarted on its next call."""
        for subject in self._created.values():
            subject.rest()

    def unavailable(self, asked_as: str) -> str | None:
        """Return why a subject is unavailable, or None if it is available or has to be."""
        name = parse(asked_as)[0]
        if name not in self._optional or asked_as in self._created:
            return None
        if asked_as not in self._unavailable:
            try:
                self._created[asked_as] = find_subject(asked_as, timeout=self._timeout)
            except UnavailableError as error:
                self._unavailable[asked_as] = str(error)
        return self._unavailable.get(asked_as)

    def name(self, asked_as: str) -> str:
        """Return a subject's own name, for a fault without creating it, which may fail."""
        subject = self._created.get(asked_as)
        return subject.name if subject else parse(asked_as)[0]

    def describe(self, asked_as: str) -> dict[str, Any]:
        """Return a subject's description; for a fault that of the reference, with the fault's name."""
        if reason := self.unavailable(asked_as):
            return {"name": self.name(asked_as), "capabilities": [], "unavailable": without_folders(reason)}
        if is_a_fault(asked_as):
            return self.get(_DEFAULT).describe() | {"name": asked_as}
        return self.get(asked_as).describe()

    def expected(self, asked_as: str) -> tuple[Expectation, ...]:
        """Return the known failures of a subject."""
        if asked_as not in self._expected:
            self._expected[asked_as] = self._read_expectations(asked_as)
        return self._expected[asked_as]

    def _read_expectations(self, asked_as: str) -> tuple[Expectation, ...]:
        if self.unavailable(asked_as):
            return ()
        name = self.name(asked_as)
        own = [expectations.FOLDER / f"{name}.toml"] if name in foreign_names() else []
        version = str(self.describe(asked_as).get("version", ""))
        with as_usage_errors(asked_as):
            additional = [file for file in self._files if file.stem == name]
            return tuple(entry for file in (*own, *additional) for entry in expectations.read(file, version))


def is_a_fault(asked_as: str) -> bool:
    """Return whether a subject is a fault of the museum."""
    with as_usage_errors(asked_as):
        return is_fault(asked_as)


@contextmanager
def as_usage_errors(asked_as: str) -> Iterator[None]:
    """Turn any exception into a one-line usage error, since a harness is foreign code."""
    try:
        yield
    except pytest.UsageError:
        raise
    except Exception as error:
        raise pytest.UsageError(f"--subject {asked_as}: {type(error).__name__}: {error}") from error
