"""Checkpoints damaged at random: each is refused with a clear error, or loads with the values that were saved.

Everything else is a failure: a crash, a hang, another value without a word, memory beyond the bound, a changed file.
A case is a layout and a seed; the same case does the same damage, so a failure can be pinned: ``replay`` runs one.
Layouts without checksums (safetensors, orbax as others save it) cannot tell a flipped bit of a number: there, values
are not compared.
"""

import contextlib
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fixtures.damage.corruption import WRITERS, StoredLayout
from fixtures.damage.random_damage import damage_arrays, damage_files
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny
from suite.session.find import find_subject
from suite.subjects.process.elsewhere import Elsewhere, SubjectError, elsewhere
from suite.subjects.protocol import ProcessDiedError, Subject
from suite.writing.cases import SOURCE_KINDS, digests

# What is saved by the subject has digests, a zip has checksums.
CHECKED = {"openpi_orbax", "paligemma_npz"}
TIMEOUT = 60.0
MEMORY_BOUND = 512 << 20
# Of ten cases, how many are damaged before they are written.
_ARRAYS_OF_TEN = 3


@dataclass(frozen=True)
class Case:
    """One damage: a layout and a seed."""

    layout: StoredLayout
    seed: int


@dataclass(frozen=True)
class Damage:
    """What was done to a checkpoint, the values that it had, and what a loader can know of it.

    Attributes:
      senseless: no loader can make sense of it, so it is refused.
      noticeable: every changed value shows, so what loads is what was written.
    """

    words: str
    contents: Params
    senseless: bool = False
    noticeable: bool = False


@dataclass
class Fuzzer:
    """A subject in another process, started again whenever it dies, and whole checkpoints to damage copies of."""

    subject: Subject
    folder: Path
    spec: ModelSpec = field(default_factory=lambda: tiny(lora="both"))
    _running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _there: Elsewhere | None = None
    _baseline: int = 0

    def layouts(self) -> list[StoredLayout]:
        """The layouts that the subject reads."""
        return [layout for layout in WRITERS if layout in {"openpi_orbax", *self.subject.capabilities}]

    def run(self, case: Case) -> dict[str, Any] | None:
        """What went wrong, if something did; the case's files are gone afterwards."""
        rng = random.Random(f"{case.layout}:{case.seed}")
        path = (
            self.folder / f"{case.layout}_{case.seed}" / ("pt_224.npz" if case.layout == "paligemma_npz" else "params")
        )
        path.parent.mkdir()
        try:
            damage = self._damaged(rng, case.layout, path)
            before = digests(path.parent)
            wrong = self._outcome(case.layout, path, damage)
            if not wrong and digests(path.parent) != before:
                wrong = "a file changed"
        finally:
            shutil.rmtree(path.parent)
        return {"layout": case.layout, "seed": case.seed, "damage": damage.words, "wrong": wrong} if wrong else None

    def close(self) -> None:
        """End the other process."""
        self._running.close()
        self._there = None

    def _damaged(self, rng: random.Random, layout: StoredLayout, path: Path) -> Damage:
        """Write a damaged checkpoint."""
        writer = WRITERS[layout]
        contents = writer.contents(self._spec_of(layout), 0, "float32")
        if rng.randrange(10) < _ARRAYS_OF_TEN:
            edit = damage_arrays(rng, writer.named(contents))
            writer.write(edit.arrays, path)
            return Damage(edit.words, contents, senseless=edit.senseless)
        whole = self._whole(layout)
        (shutil.copytree if whole.is_dir() else shutil.copyfile)(whole, path)
        return Damage(damage_files(rng, path), contents, noticeable=layout in CHECKED)

    def _whole(self, layout: StoredLayout) -> Path:
        """An undamaged checkpoint, written once; pi0's own by the subject, with whatever it adds for safety."""
        path = self.folder / f"whole_{layout}"
        writer, spec = WRITERS[layout], self._spec_of(layout)
        if not path.exists() and layout == "openpi_orbax" and "save" in self.subject.capabilities:
            self.subject.save(spec, writer.contents(spec, 0, "float32"), str(path))
        elif not path.exists():
            writer.write(writer.named(writer.contents(spec, 0, "float32")), path)
        return path

    def _spec_of(self, layout: StoredLayout) -> ModelSpec:
        # PyTorch's layout has no adapters.
        return self.spec if layout != "openpi_pytorch" else tiny()

    def _outcome(self, layout: StoredLayout, path: Path, damage: Damage) -> str | None:
        """Why the way in which the subject takes a checkpoint is wrong; None if it is refused well, or loads well."""
        try:
            source = {"kind": SOURCE_KINDS[layout], "path": str(path)}
            loaded = self._process().load(self._spec_of(layout), source, 0)
            grown = self._process().peak_memory() - self._baseline
        except SubjectError as error:
            return _unclear(str(error), path)
        except ProcessDiedError as error:
            self.close()
            return f"crash or hang: {error}"
        if grown > MEMORY_BOUND:
            self.close()
            return f"memory: {grown >> 20} MB more than at the start"
        return "accepted" if damage.senseless else _silent(loaded, damage)

    def _process(self) -> Elsewhere:
        if self._there is None:
            self._there = self._running.enter_context(elsewhere(self.subject, timeout=TIMEOUT))
            # Once undamaged, so that what the first load takes for good is no growth.
            path = self._whole("openpi_orbax")
            self._there.load(self.spec, {"kind": "checkpoint", "path": str(path)}, 0)
            self._baseline = self._there.peak_memory()
        return self._there


def fuzz(subject_name: str, examples: int, *, first_seed: int = 0) -> list[dict[str, Any]]:
    """Give a subject damaged checkpoints, layout by layout in turn.

    Args:
      subject_name: as after ``--subject``.
      examples: how many in all.
      first_seed: where to start; cases of other seeds are other cases.

    Returns:
      a failure each: layout, seed, what was damaged, what went wrong.
    """
    with _fuzzer(subject_name) as fuzzer:
        layouts = fuzzer.layouts()
        cases = [Case(layouts[n % len(layouts)], first_seed + n // len(layouts)) for n in range(examples)]
        return [failure for case in cases if (failure := fuzzer.run(case))]


def replay(subject_name: str, layout: StoredLayout, seed: int) -> dict[str, Any] | None:
    """One case again."""
    with _fuzzer(subject_name) as fuzzer:
        return fuzzer.run(Case(layout, seed))


@contextlib.contextmanager
def _fuzzer(subject_name: str) -> Iterator[Fuzzer]:
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(find_subject(subject_name), Path(folder))
        try:
            yield fuzzer
        finally:
            fuzzer.close()


def _unclear(error: str, path: Path) -> str | None:
    """Why a refusal does not help whoever gets it."""
    if "MemoryError" in error or "bad_alloc" in error:
        return f"memory: {error[:300]}"
    return None if str(path) in error else f"refused without naming the path: {error[:300]}"


def _silent(loaded: dict[str, Any], damage: Damage) -> str | None:
    """Which parameter is not what was written, though nothing says so."""
    params, report = loaded["params"], loaded["report"] or {}
    fresh = [path for path in damage.contents if report.get(path) in ("initialised", "dropped")]
    # Adapters may be missing; that one of them is fresh is in the report.
    if lost := [path for path in fresh if damage.noticeable or not path.endswith(("lora_a", "lora_b"))]:
        return f"accepted, and fresh: {lost[:3]}"
    for path in sorted(damage.contents.keys() & params.keys() if damage.noticeable else ()):
        if params[path].tobytes() != damage.contents[path].tobytes():
            return f"silently different: {path}"
    return None
