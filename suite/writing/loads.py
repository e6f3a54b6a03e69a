"""Loads of cases, each done once for a subject, however many laws judge it."""

import copy
import shutil
import traceback
from pathlib import Path
from typing import Any

from fixtures.specs import ModelSpec
from suite.subjects.protocol import Subject
from suite.writing.cases import digests
from suite.writing.layouts import Case, Outcome
from suite.writing.remembered import register

_AGAIN = "load again"


class Loads:
    """The loads of one subject. Only the files of the last case are kept.

    Args:
      subject: the subject.
      folder: an empty folder for the files.
    """

    def __init__(self, subject: Subject, folder: Path) -> None:
        self._subject, self._folder = subject, folder
        self._outcomes: dict[tuple[str, str, int], Outcome] = {}
        self._cases: dict[str, Case] = {}
        self._written: tuple[Case, Path] | None = None
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
        path, model = self._path(case), copy.deepcopy(case.model)
        before, result, error = digests(path.parent), None, None
        try:
            result = self._call(operation, model, case.layout.source(path), seed)
        except Exception as raised:  # noqa: BLE001 - the laws judge it
            # The lines stay for the report; the arrays that they refer to do not.
            traceback.clear_frames(raised.__traceback__)
            error = raised
        after = digests(path.parent)
        changed = tuple(sorted(name for name in before | after if before.get(name) != after.get(name)))
        if changed:
            self._forget()
        return Outcome(
            operation="load" if operation == _AGAIN else operation,
            path=path,
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

    def _path(self, case: Case) -> Path:
        if not self._written or self._written[0] is not case:
            self._forget()
            folder = self._folder / str(case)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._written = case, case.write(folder)
        return self._written[1]

    def _forget(self) -> None:
        if self._written:
            shutil.rmtree(self._folder / str(self._written[0]))
        self._written = None
