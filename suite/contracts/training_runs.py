"""Short training runs that several laws judge, each made once: full fine-tuning, and LoRA under a moving average."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import content, observations
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny
from suite.subjects.protocol import Subject
from suite.writing.cases import LEAN, training_options
from suite.writing.remembered import Remembered


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
    """What a run starts from, always with the same batch.

    Attributes:
      name: its name.
      spec: the model.
      lean: train with bfloat16 frozen parameters, under a moving average, from drawn noise and times; otherwise all in
        float32, from the batch's own noise and times.
      needs: what a subject declares that trains such a model.
    """

    name: str
    spec: ModelSpec
    lean: bool
    needs: tuple[str, ...] = ()

    @property
    def params(self) -> Params:
        """The parameters at the start, all random."""
        return content.params(self.spec)

    @property
    def batch(self) -> Params:
        """The batch of every step."""
        return observations.batch(self.spec)

    def options(self, steps: int) -> dict[str, Any]:
        """Return the options for a run of that many steps."""
        if self.lean:
            return training_options(**LEAN)
        draws = {name: np.stack([self.batch[name]] * steps) for name in ("noise", "time")} if steps else {}
        return training_options(**draws)


LORA = Start("lora", tiny("pi0", lora="both"), lean=True, needs=("head_adapters",))
FULL = Start("full", tiny("pi0"), lean=False)
FULL_PI05 = Start("full_pi05", tiny("pi05"), lean=False)


def from_each(*starts: Start) -> pytest.MarkDecorator:
    """Parametrize a law by what a run starts from."""
    return pytest.mark.parametrize("start", starts, ids=[start.name for start in starts])


class Runs:
    """The runs of one subject.

    Args:
      subject: the subject.
      remembered: its remembered answers.
      folder: an empty folder for saved runs.
    """

    def __init__(self, subject: Subject, remembered: Remembered, folder: Path) -> None:
        self._subject, self._remembered, self._folder = subject, remembered, folder

    def __call__(self, start: Start, steps: int) -> dict[str, Any]:
        """Return what a run in memory ends on."""

        def train() -> dict[str, Any]:
            result: dict[str, Any] = self._subject.train(
                start.spec, start.params, [start.batch] * steps, start.options(steps)
            )
            return result

        return self._remembered((start.name, steps), train)

    def saved(self, start: Start, to: Path, steps: int = 1) -> dict[str, Any]:
        """Copy a saved run of that many steps into ``to``, and return what it ended on. Further steps are resumed."""
        run, result = self._remembered((start.name, steps, "saved"), lambda: self._save(start, steps))
        shutil.copytree(run, to, dirs_exist_ok=True)
        return result

    def resumed(self, start: Start, folder: Path, steps: int, **options: Any) -> dict[str, Any]:
        """Resume a run in a folder up to that many steps, ``step=`` from an earlier one."""
        result: dict[str, Any] = self._subject.resume(
            start.spec, [start.batch] * steps, start.options(steps), folder=str(folder), **options
        )
        return result

    def _save(self, start: Start, steps: int) -> tuple[Path, dict[str, Any]]:
        run = self._folder / f"{start.name}-{steps}"
        # A run that the subject was asked for before it was told to forget.
        shutil.rmtree(run, ignore_errors=True)
        batches = [start.batch]
        if steps > 1:
            self.saved(start, run, steps - 1)
            return run, self.resumed(start, run, steps)
        run.mkdir()
        return run, self._subject.train(start.spec, start.params, batches, start.options(1), folder=str(run))


def steps_of(folder: Path) -> list[int]:
    """Return the steps that a run saved, sorted."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def served(folder: Path) -> str:
    """Return the path to serve of a run's only step."""
    (step,) = steps_of(folder)
    return str(folder / str(step) / "params")
