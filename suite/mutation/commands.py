"""Fuzzing of the commands: each must answer a damaged checkpoint rightly, or refuse it clearly and leave nothing.

The commands run in this process, one after another, so that a case takes a fraction of a second. A wrong outcome is a
traceback, another exit status than 0, 1 or 2, a refusal that does not name the path, a file that is left or changed,
a conversion of what makes no sense, another value, or too much time. A case is a layout and a seed, as for subjects.
"""

import contextlib
import io
import json
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn, TypeAlias

from fixtures.damage.random_damage import damage_arrays, damage_files
from fixtures.layouts import LAYOUTS, Layout
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny
from fixtures.writers import peft
from pi0_compat import restore_params, save_params
from pi0_compat.cli import main as cli
from suite.writing.cases import digests

# The longest that a command may take on a tiny checkpoint, in seconds.
_LONGEST = 60
_ARRAYS_OF_TEN = 3
# Layouts whose files have checksums, so that no other value may pass: zip files, and what ``save_params`` writes.
_CHECKED = ("openpi", "paligemma_npz")
# What a conversion to openpi's layout reads, and what each command is given beside the damaged checkpoint.
_WHOLE = ("inspect", "check", "convert", "diff")

Run: TypeAlias = Callable[[Sequence[str]], int]


class _TooLong(BaseException):
    """A command took too long; no command turns this into a refusal."""


class Input(NamedTuple):
    """A damaged checkpoint.

    Attributes:
      path: its file or folder.
      words: what was done to it.
      senseless: whether it must not be converted: no loader can make sense of it.
      contents: the values that it must have if it is converted, under openpi's names; None if others may pass.
    """

    path: Path
    words: str
    senseless: bool
    contents: Params | None


class Outcome(NamedTuple):
    """How a command ended: its exit status, or the exception that left it, and what it printed."""

    status: int | None
    stdout: str
    stderr: str
    raised: str = ""


@dataclass
class CommandFuzzer:
    """Gives the commands damaged checkpoints.

    Attributes:
      folder: scratch space, empty.
      run_command: runs a command line in this process and returns its exit status.
    """

    folder: Path
    run_command: Run = cli.main
    _intact: dict[str, Path] = field(default_factory=dict)

    def run(self, layout: str, seed: int, commands: Sequence[str] = _WHOLE) -> list[dict[str, Any]]:
        """Damage a checkpoint, give it to commands, and delete it.

        Args:
          layout: of the checkpoint.
          seed: of the damage.
          commands: some of ``inspect``, ``check``, ``convert`` and ``diff``.

        Returns:
          a record for each wrong outcome: ``layout``, ``seed``, ``damage``, ``command`` and ``wrong``.
        """
        rng = random.Random(f"{layout}:{seed}")
        scratch = self.folder / f"{layout}_{seed}"
        scratch.mkdir()
        try:
            given = self._write_damaged(rng, LAYOUTS[layout], scratch)
            before = digests(scratch)
            found = []
            for command in commands:
                wrong = self._wrong(layout, command, given, scratch)
                if not wrong and digests(scratch) != before:
                    wrong = "a file was changed, or left"
                if wrong:
                    found.append(
                        {"layout": layout, "seed": seed, "damage": given.words, "command": command, "wrong": wrong}
                    )
            return found
        finally:
            shutil.rmtree(scratch)

    def _write_damaged(self, rng: random.Random, layout: Layout, scratch: Path) -> Input:
        spec = model_of(layout)
        contents = layout.contents(spec, 0, "float32")
        path = scratch / layout.file
        if rng.randrange(10) < _ARRAYS_OF_TEN:
            edit = damage_arrays(rng, layout.tensors(contents))
            layout.write_tensors(edit.arrays, path, spec)
            return Input(_within(layout, path), edit.words, edit.senseless, None)
        intact = self._written(layout)
        (shutil.copytree if intact.is_dir() else shutil.copyfile)(intact, path)
        words = damage_files(rng, _within(layout, path))
        return Input(_within(layout, path), words, False, contents if layout.name in _CHECKED else None)

    def _written(self, layout: Layout) -> Path:
        """Return an undamaged checkpoint, written once; openpi's as this project saves it, with digests."""
        if layout.name not in self._intact:
            path = self.folder / "intact" / layout.name / layout.file
            path.parent.mkdir(parents=True)
            spec = model_of(layout)
            contents = layout.contents(spec, 0, "float32")
            if layout.name == "openpi":
                save_params(contents, path)
            else:
                layout.write_tensors(layout.tensors(contents), path, spec)
            (path.parent / "model.json").write_text(json.dumps(spec))
            self._intact[layout.name] = path
        return self._intact[layout.name]

    def _wrong(self, layout: str, command: str, given: Input, scratch: Path) -> str | None:
        """Return what is wrong with the outcome of a command, or None."""
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            outcome = _outcome(self.run_command, self._line(layout, command, given, scratch, Path(out)))
            if wrong := wrong_end(outcome, given.path):
                return wrong
            left = sorted(file.name for file in Path(out).iterdir())
            if command != "convert":
                return None
            if outcome.status:
                return f"left behind: {left}" if left else None
            if given.senseless:
                return "converted"
            return None if given.contents is None else _other_value(Path(out) / "out" / "params", given.contents)

    def _line(self, layout: str, command: str, given: Input, scratch: Path, out: Path) -> list[str]:
        intact = self._written(LAYOUTS[layout])
        config = ["--config-file", str(intact.parent / "model.json")]
        lines = {
            "inspect": ["inspect", str(given.path)],
            "check": ["check", str(given.path), *config],
            "convert": ["convert", str(given.path), "--to", "openpi", "-o", str(out / "out"), *config],
            "diff": ["diff", str(given.path), str(_within(LAYOUTS[layout], intact)), *config],
        }
        return lines[command]


def fuzz_commands(examples: int, *, first_seed: int = 0, each: bool = True) -> list[dict[str, Any]]:
    """Give the commands damaged checkpoints, cycling through all layouts.

    Args:
      examples: how many.
      first_seed: seed of the first of each layout; the next ones count up from it.
      each: whether each goes to all commands, and not only to one, in turn.

    Returns:
      one record for each wrong outcome.
    """
    layouts = list(LAYOUTS)
    with tempfile.TemporaryDirectory() as folder:
        fuzzer, found = CommandFuzzer(Path(folder)), []
        for number in range(examples):
            turn = number // len(layouts)
            commands = _WHOLE if each else (_WHOLE[turn % len(_WHOLE)],)
            found += fuzzer.run(layouts[number % len(layouts)], first_seed + turn, commands)
        return found


def model_of(layout: Layout) -> ModelSpec:
    """Return the tiny model of a layout's checkpoints; with adapters where the layout has a place for them."""
    return layout.model(tiny(lora="both")) if layout.name in ("openpi", "peft") else tiny()


def wrong_end(outcome: Outcome, path: Path) -> str | None:
    """Return why an outcome is no answer and no clear refusal; None if it is one."""
    if outcome.raised:
        return outcome.raised
    if outcome.status not in (0, 1, 2):
        return f"exit status {outcome.status}"
    if "Traceback" in outcome.stderr:
        return f"a traceback: {outcome.stderr[-300:]}"
    if outcome.status == 2 and str(path) not in outcome.stderr:
        return f"refused without naming the path: {outcome.stderr[:300]}"
    return None


def _outcome(run: Run, line: Sequence[str]) -> Outcome:
    """Run a command in this process; return how it ended."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            with _at_most(_LONGEST):
                status: int | None = run(line)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return Outcome(None, stdout.getvalue(), stderr.getvalue(), f"{type(error).__name__}: {error}"[:300])
    return Outcome(status, stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise _TooLong(f"more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _other_value(out: Path, contents: Params) -> str | None:
    """Return the first parameter that a conversion made another of, or None."""
    found = restore_params(out)
    wrong = [
        path for path in sorted(contents) if path not in found or found[path].tobytes() != contents[path].tobytes()
    ]
    return f"silently different: {wrong[0]}" if wrong else None


def _within(layout: Layout, path: Path) -> Path:
    """Return what commands are given of a checkpoint: of PEFT's, the adapter without the base beside it."""
    return path / peft.ADAPTER if layout.name == "peft" else path
