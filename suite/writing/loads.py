"""Loads of cases, each done once for a subject, however many laws judge it."""

import copy
import shutil
import traceback
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from fixtures.specs import ModelSpec
from suite.subjects.protocol import Subject
from suite.writing.cases import digests
from suite.writing.layouts import Case, Outcome
from suite.writing.remembered import register

_AGAIN = "load again"
# How many cases' files are kept: of the layout that takes longest to write, and that is also served, all in a file.
_KEPT = {"openpi": 100}
_FEW = 4


class _Written(NamedTuple):
    """The files of a case: the path to load, and the digest of each file."""

    case: Case
    path: Path
    digests: dict[str, str]


class Loads:
    """The loads of one subject. Of each layout, only the files of the last cases are kept.

    Args:
      subject: the subject.
      folder: an empty folder for the files.
    """

    def __init__(self, subject: Subject, folder: Path) -> None:
        self._subject, self._folder = subject, folder
        self._outcomes: dict[tuple[str, str, int], Outcome] = {}
        self._cases: dict[str, Case] = {}
        self._written: dict[str, list[_Written]] = defaultdict(list)
        register(self)

    def __call__(self, case: Case, *, seed: int = 0) -> Outcome:
        """Return what loading the case for training did.

        Raises:
          ValueError: another case has its id.
        """
        if self._cases.setdefault(str(case), case) is not case:
            raise ValueError(f"two cases are called {case}")
        return self._once(case, "load", seed)

    def again(self, case: Case, *, seed: int = 0) -> Outcome:
        """Return what loading the case for training a second time did."""
        return self._once(case, _AGAIN, seed)

    def serve(self, case: Case) -> Outcome:
        """Return what loading the case for serving did."""
        return self._once(case, "load_for_inference", 0)

    def forget(self) -> None:
        """Forget what all loads did."""
        self._outcomes.clear()

    def _once(self, case: Case, operation: str, seed: int) -> Outcome:
        key = (str(case), operation, seed)
        if key not in self._outcomes:
            self._outcomes[key] = self._attempt(case, operation, seed)
        return self._outcomes[key]

    def _attempt(self, case: Case, operation: str, seed: int) -> Outcome:
        written, model = self._files(case), copy.deepcopy(case.model)
        before, result, error = written.digests, None, None
        try:
            result = self._call(operation, model, case.layout.source(written.path), seed)
        except Exception as raised:  # noqa: BLE001 - the laws judge it
            # The lines stay for the report; the arrays that they refer to do not.
            traceback.clear_frames(raised.__traceback__)
            error = raised
        after = digests(written.path.parent)
        changed = tuple(sorted(name for name in before | after if before.get(name) != after.get(name)))
        if changed:
            self._delete(written)
        return Outcome(
            operation="load" if operation == _AGAIN else operation,
            path=written.path,
            model=model,
            result=result,
            error=error,
            changed=changed,
        )

    def _call(self, operation: str, model: ModelSpec, source: dict[str, Any], seed: int) -> dict[str, Any]:
        if operation == "load_for_inference":
            return {"params": self._subject.load_for_inference(model, source["path"])}
        loaded: dict[str, Any] = self._subject.load(model, source, seed=seed)
        return loaded

    def _files(self, case: Case) -> _Written:
        """Return the files of a case, written now unless they are still there."""
        kept = self._written[case.layout.name]
        for written in kept:
            if written.case is case:
                return written
        while len(kept) >= _KEPT.get(case.layout.name, _FEW):
            self._delete(kept[0])
        folder = self._folder / str(case)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        path = case.write(folder)
        kept.append(_Written(case, path, digests(folder)))
        return kept[-1]

    def _delete(self, written: _Written) -> None:
        shutil.rmtree(self._folder / str(written.case))
        self._written[written.case.layout.name].remove(written)
