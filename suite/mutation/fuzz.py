"""Fuzzing with randomly damaged checkpoints: a subject must refuse each with a clear error, or load the saved values.

Anything else is a failure: a crash, a hang, a silently different value, too much memory, a changed file. A case is a
layout and a seed and always does the same damage, so ``replay`` can repeat a failure. Layouts without checksums
(safetensors, and orbax as written by others) cannot detect a flipped bit, so their values are not compared.
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
from suite.subjects.process.elsewhere import Elsewhere, elsewhere
from suite.subjects.protocol import ProcessDiedError, Subject, SubjectError
from suite.writing.cases import digests

# Layouts that detect a flipped bit: the subject's own saves have digests, and zip files have checksums.
CHECKED = {"openpi", "paligemma_npz"}
TIMEOUT = 60.0
MEMORY_BOUND = 512 << 20
# In this many of ten cases the arrays are damaged before they are written, in the others the files.
_ARRAYS_OF_TEN = 3


@dataclass(frozen=True)
class Case:
    """A reproducible damage.

    Attributes:
      layout: of the damaged checkpoint.
      seed: of the random choices.
    """

    layout: StoredLayout
    seed: int


@dataclass(frozen=True)
class Damage:
    """The damage done to a checkpoint.

    Attributes:
      words: describes the damage.
      contents: the original parameters.
      senseless: the checkpoint is unusable, so it has to be refused.
      noticeable: a loader can detect every changed value, so whatever loads has to equal the original.
    """

    words: str
    contents: Params
    senseless: bool = False
    noticeable: bool = False


@dataclass
class Fuzzer:
    """Gives a subject damaged checkpoints. The subject runs in another process, which is restarted when it dies.

    Attributes:
      subject: the subject to test.
      folder: scratch space for the checkpoints.
      spec: the model of the checkpoints.
    """

    subject: Subject
    folder: Path
    spec: ModelSpec = field(default_factory=lambda: tiny(lora="both"))
    _running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _process: Elsewhere | None = None
    _baseline: int = 0

    def layouts(self) -> list[StoredLayout]:
        """Return the layouts that the subject reads."""
        return [layout for layout in WRITERS if layout in {"openpi", *self.subject.capabilities}]

    def run(self, case: Case) -> dict[str, Any] | None:
        """Run a case and delete its files. Return a record of the failure, or None if the subject behaved correctly."""
        rng = random.Random(f"{case.layout}:{case.seed}")
        path = (
            self.folder / f"{case.layout}_{case.seed}" / ("pt_224.npz" if case.layout == "paligemma_npz" else "params")
        )
        path.parent.mkdir()
        try:
            damage = self._write_damaged(rng, case.layout, path)
            before = digests(path.parent)
            failure = self._failure(case.layout, path, damage)
            if not failure and digests(path.parent) != before:
                failure = "a file changed"
        finally:
            shutil.rmtree(path.parent)
        return {"layout": case.layout, "seed": case.seed, "damage": damage.words, "wrong": failure} if failure else None

    def close(self) -> None:
        """End the other process."""
        self._running.close()
        self._process = None

    def _write_damaged(self, rng: random.Random, layout: StoredLayout, path: Path) -> Damage:
        """Write a damaged checkpoint."""
        writer = WRITERS[layout]
        contents = writer.contents(self._spec_of(layout), 0, "float32")
        if rng.randrange(10) < _ARRAYS_OF_TEN:
            edit = damage_arrays(rng, writer.named(contents))
            writer.write(edit.arrays, path)
            return Damage(edit.words, contents, senseless=edit.senseless)
        intact = self._intact(layout)
        (shutil.copytree if intact.is_dir() else shutil.copyfile)(intact, path)
        return Damage(damage_files(rng, path), contents, noticeable=layout in CHECKED)

    def _intact(self, layout: StoredLayout) -> Path:
        """Return an undamaged checkpoint, written once. If the subject can save, it writes the pi0 checkpoint, so that
        the file includes any checksums it adds."""
        path = self.folder / f"intact_{layout}"
        writer, spec = WRITERS[layout], self._spec_of(layout)
        if not path.exists() and layout == "openpi" and "save" in self.subject.capabilities:
            self.subject.save(spec, writer.contents(spec, 0, "float32"), str(path))
        elif not path.exists():
            writer.write(writer.named(writer.contents(spec, 0, "float32")), path)
        return path

    def _spec_of(self, layout: StoredLayout) -> ModelSpec:
        # openpi's PyTorch layout cannot hold adapters.
        return self.spec if layout != "openpi_pytorch" else tiny()

    def _failure(self, layout: StoredLayout, path: Path, damage: Damage) -> str | None:
        """Load a damaged checkpoint. Return what went wrong, or None if it was refused clearly or loaded correctly."""
        try:
            source = {"kind": layout, "path": str(path)}
            loaded = self._running_process().load(self._spec_of(layout), source, 0)
            grown = self._running_process().peak_memory() - self._baseline
        except SubjectError as error:
            return _unclear(str(error), path)
        except ProcessDiedError as error:
            self.close()
            return f"crash or hang: {error}"
        if grown > MEMORY_BOUND:
            self.close()
            return f"memory: {grown >> 20} MB more than at the start"
        return "accepted" if damage.senseless else _silent(loaded, damage)

    def _running_process(self) -> Elsewhere:
        if self._process is None:
            self._process = self._running.enter_context(elsewhere(self.subject, timeout=TIMEOUT))
            # Load an intact checkpoint first: memory that the first load keeps does not count as growth.
            path = self._intact("openpi")
            self._process.load(self.spec, {"kind": "openpi", "path": str(path)}, 0)
            self._baseline = self._process.peak_memory()
        return self._process


def fuzz(subject_name: str, examples: int, *, first_seed: int = 0) -> list[dict[str, Any]]:
    """Give a subject damaged checkpoints, cycling through the layouts.

    Args:
      subject_name: a value of ``--subject``.
      examples: total number of cases.
      first_seed: seed of the first case of each layout; the next ones count up from it.

    Returns:
      one record per failure: ``layout``, ``seed``, ``damage`` and ``wrong``, which says what went wrong.
    """
    with _fuzzer(subject_name) as fuzzer:
        layouts = fuzzer.layouts()
        cases = [Case(layouts[n % len(layouts)], first_seed + n // len(layouts)) for n in range(examples)]
        return [failure for case in cases if (failure := fuzzer.run(case))]


def replay(subject_name: str, layout: StoredLayout, seed: int) -> dict[str, Any] | None:
    """Run one case again; see ``Fuzzer.run``."""
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
    """Return what is wrong with an error message, or None if it is clear."""
    if "MemoryError" in error or "bad_alloc" in error:
        return f"memory: {error[:300]}"
    return None if str(path) in error else f"refused without naming the path: {error[:300]}"


def _silent(loaded: dict[str, Any], damage: Damage) -> str | None:
    """Return which parameter differs from what was written without being reported, or None."""
    params, report = loaded["params"], loaded["report"] or {}
    fresh = [path for path in damage.contents if report.get(path) in ("initialized", "dropped")]
    # Adapters may be missing: the report says which are fresh.
    if lost := [path for path in fresh if damage.noticeable or not path.endswith(("lora_a", "lora_b"))]:
        return f"accepted, and fresh: {lost[:3]}"
    for path in sorted(damage.contents.keys() & params.keys() if damage.noticeable else ()):
        if params[path].tobytes() != damage.contents[path].tobytes():
            return f"silently different: {path}"
    return None
