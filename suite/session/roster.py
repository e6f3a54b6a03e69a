"""The subjects of a run: whom the options ask for, made when they are needed, and their known failures."""

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
    """The subjects that a run asks, by how they are asked for.

    Args:
      names: every ``--subject``; ``all`` stands for all that come with the suite, and those that cannot be had then are
        unavailable, not an error.
      required: names that have to be available all the same.
      files: expectations beside those that come with the suite, each named after its subject.
      timeout: seconds that one operation may take in another process.
    """

    def __init__(self, names: Sequence[str], required: Sequence[str], files: Sequence[Path], timeout: float) -> None:
        asked = {parse(name)[0]: name for name in names or [_DEFAULT]}
        if len(asked) < len(set(names)):
            raise pytest.UsageError(f"--subject: one of {', '.join(names)} is asked for twice")
        # Of these it is no error that they cannot be had.
        self._optional = {name for name in known_subjects() if ALL in asked and name not in (*asked, *required)}
        if asked.pop(ALL, None):
            asked = {name: asked.get(name, name) for name in (*known_subjects(), *asked)}
        if absent := [name for name in required if name not in asked]:
            raise pytest.UsageError(f"--require-subject {absent[0]}: is not asked; add --subject {absent[0]}[=PYTHON]")
        if strangers := [file for file in files if not file.is_file()]:
            raise pytest.UsageError(f"--expectations {strangers[0]}: no such file")
        self.names = list(asked.values())
        self._files, self._timeout = files, timeout
        self._made: dict[str, Subject] = {}
        self._unavailable: dict[str, str] = {}
        self._expected: dict[str, tuple[Expectation, ...]] = {}

    def make(self) -> None:
        """Make every subject and read what it is expected to break; of faults only see that there are such."""
        for name in self.names:
            if not is_a_fault(name) and self.unavailable(name) is None:
                self.get(name)
                self.expected(name)

    def get(self, asked_as: str) -> Subject:
        """A subject. One that another is asked after lets go of its process, a fault is let go altogether."""
        if asked_as not in self._made:
            for fault in [other for other in self._made if is_a_fault(other) and is_a_fault(asked_as)]:
                del self._made[fault]
            with refusing(asked_as):
                self._made[asked_as] = find_subject(asked_as, timeout=self._timeout)
        for other in self._made.keys() - {asked_as}:
            self._made[other].rest()
        return self._made[asked_as]

    def rest(self) -> None:
        """End the processes of all subjects; each is started again when it is asked."""
        for subject in self._made.values():
            subject.rest()

    def unavailable(self, asked_as: str) -> str | None:
        """Why a subject cannot be had, if that is no error."""
        name = parse(asked_as)[0]
        if name not in self._optional or asked_as in self._made:
            return None
        if asked_as not in self._unavailable:
            try:
                self._made[asked_as] = find_subject(asked_as, timeout=self._timeout)
            except UnavailableError as error:
                self._unavailable[asked_as] = str(error)
        return self._unavailable.get(asked_as)

    def name(self, asked_as: str) -> str:
        """A subject's own name; that of a fault is known without making it, which may fail."""
        made = self._made.get(asked_as)
        return made.name if made else parse(asked_as)[0]

    def describe(self, asked_as: str) -> dict[str, Any]:
        """What a subject tells of itself; a fault is the reference, which tells the same for hundreds of them."""
        if reason := self.unavailable(asked_as):
            return {"name": self.name(asked_as), "capabilities": [], "unavailable": without_folders(reason)}
        if is_a_fault(asked_as):
            return self.get(_DEFAULT).describe() | {"name": asked_as}
        return self.get(asked_as).describe()

    def expected(self, asked_as: str) -> tuple[Expectation, ...]:
        """The known failures of a subject."""
        if asked_as not in self._expected:
            self._expected[asked_as] = self._read_expectations(asked_as)
        return self._expected[asked_as]

    def _read_expectations(self, asked_as: str) -> tuple[Expectation, ...]:
        if self.unavailable(asked_as):
            return ()
        name = self.name(asked_as)
        own = [expectations.FOLDER / f"{name}.toml"] if name in foreign_names() else []
        version = str(self.describe(asked_as).get("version", ""))
        with refusing(asked_as):
            further = [file for file in self._files if file.stem == name]
            return tuple(entry for file in (*own, *further) for entry in expectations.read(file, version))


def is_a_fault(asked_as: str) -> bool:
    """Whether a subject is a fault of the museum."""
    with refusing(asked_as):
        return is_fault(asked_as)


@contextmanager
def refusing(asked_as: str) -> Iterator[None]:
    """Anything that goes wrong with a subject stops the run with one line: a harness is foreign code."""
    try:
        yield
    except pytest.UsageError:
        raise
    except Exception as error:
        raise pytest.UsageError(f"--subject {asked_as}: {type(error).__name__}: {error}") from error
