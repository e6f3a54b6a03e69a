"""Every path that a user passes is fetched, searched for a checkpoint and recognized once."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import pi0_compat
from fixtures import specs
from fixtures.writers import gemma_flax, hugging_face, openpi, openpi_pytorch, paligemma_npz
from pi0_compat.cli import main as cli
from pi0_compat.layouts.detect import detect
from pi0_compat.layouts.orbax.folder import require_tree
from pi0_compat.model.config import Pi0Config
from pi0_compat.storage.download import fetch

SPEC = specs.tiny()
LORA_SPEC = specs.tiny(lora="both")
MODEL, LORA_MODEL = Pi0Config.from_json({**SPEC}), Pi0Config.from_json({**LORA_SPEC})
# The functions to count, and the parameter that names the path.
_WAYS_IN = {fetch.__code__: "path", detect.__code__: "path", require_tree.__code__: "folder"}


@contextmanager
def counted(*roots: Path) -> Iterator[Counter[tuple[str, str]]]:
    """Count the calls of every function in ``_WAYS_IN``, by its name and the one of ``roots`` that its path is in.

    A profiler counts, since replacing an attribute would miss modules that imported the function by name.
    """
    counts: Counter[tuple[str, str]] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or frame.f_code not in _WAYS_IN:
            return
        path = Path(frame.f_locals[_WAYS_IN[frame.f_code]])
        root = next((root.name for root in roots if path.is_relative_to(root)), "elsewhere")
        counts[frame.f_code.co_name, root] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield counts
    finally:
        sys.setprofile(before)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a checkpoint in every layout; tests must not change it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    openpi.build(SPEC, folder / "base" / "params")
    openpi.build(LORA_SPEC, folder / "run" / "3" / "params")
    openpi.build(LORA_SPEC, folder / "run" / "12" / "params")
    openpi_pytorch.build(SPEC, folder / "pytorch")
    hugging_face.build(SPEC, folder / "hugging_face")
    paligemma_npz.build(SPEC, folder / "pt.npz")
    gemma_flax.build(SPEC, folder / "gemma")
    return folder


def _inspect(path: Path, out: Path) -> None:
    pi0_compat.inspect_checkpoint(path)


def _check(path: Path, out: Path) -> None:
    pi0_compat.check_checkpoint(path, MODEL)


def _check_values(path: Path, out: Path) -> None:
    cli.main(["check", str(path), "--values"])


def _convert(path: Path, out: Path) -> None:
    pi0_compat.convert_checkpoint(path, out, layout="openpi", config=MODEL, drop=True)


def _fold(path: Path, out: Path) -> None:
    pi0_compat.fold_checkpoint(path, out, config=LORA_MODEL)


def _extract(path: Path, out: Path) -> None:
    pi0_compat.extract_checkpoint(path, out, config=LORA_MODEL)


_ORBAX = {"base", "run", "gemma"}


@pytest.mark.parametrize(
    ("name", "use"),
    [
        *((name, _inspect) for name in ("base", "run", "pytorch", "hugging_face", "pt.npz", "gemma")),
        *((name, _check) for name in ("base", "run", "pytorch", "hugging_face", "pt.npz", "gemma")),
        *((name, _convert) for name in ("base", "pytorch", "hugging_face", "pt.npz", "gemma")),
        *((name, _check_values) for name in ("base", "pt.npz")),
        ("run", _fold),
        ("run", _extract),
    ],
)
@pytest.mark.filterwarnings("ignore:.*norm stats")
def test_a_path_is_detected_once(
    checkpoints: Path, tmp_path: Path, name: str, use: Callable[[Path, Path], object]
) -> None:
    with counted(checkpoints / name) as counts:
        use(checkpoints / name, tmp_path / "out")
    _assert_once(counts, name, searches=1 if name == "gemma" else 0)


@pytest.mark.filterwarnings("ignore:.*norm stats")
def test_both_paths_of_two_are_detected_once(checkpoints: Path, tmp_path: Path) -> None:
    base, pytorch = checkpoints / "base", checkpoints / "pytorch"
    with counted(base, pytorch) as counts:
        pi0_compat.diff_checkpoints(base, pytorch)
    for name in ("base", "pytorch"):
        _assert_once(counts, name)
    pi0_compat.extract_checkpoint(checkpoints / "run", tmp_path / "adapters", config=LORA_MODEL)
    with counted(base, tmp_path / "adapters") as counts:
        pi0_compat.attach_checkpoint(tmp_path / "adapters", base, tmp_path / "out")
    for name in ("base", "adapters"):
        _assert_once(counts, name)


def test_the_command_diff_detects_each_side_once(checkpoints: Path) -> None:
    with counted(checkpoints / "base", checkpoints / "pytorch") as counts:
        assert cli.main(["diff", str(checkpoints / "base"), str(checkpoints / "pytorch")]) == 0
    for name in ("base", "pytorch"):
        _assert_once(counts, name)


def test_restoring_fetches_and_searches_once(checkpoints: Path) -> None:
    """Restoring does not detect the layout: it accepts the params folder only."""
    with counted(checkpoints / "base") as counts:
        pi0_compat.restore_params(checkpoints / "base" / "params")
    assert counts == {("fetch", "base"): 1, ("require_tree", "base"): 1}


_LOADERS: dict[str, Callable[[Path], Any]] = {
    "base/params": pi0_compat.CheckpointWeightLoader,
    "pytorch": pi0_compat.OpenpiPyTorchWeightLoader,
    "hugging_face": pi0_compat.HuggingFaceWeightLoader,
    "pt.npz": pi0_compat.PaliGemmaWeightLoader,
    "gemma": pi0_compat.GemmaWeightLoader,
}


@pytest.mark.parametrize("name", _LOADERS)
def test_a_loader_fetches_and_searches_once(checkpoints: Path, name: str) -> None:
    """A loader does not detect the layout either: it rejects a checkpoint of another one."""
    root = checkpoints / name.partition("/")[0]
    with counted(root) as counts:
        _LOADERS[name](checkpoints / name).load(MODEL)
    searched = {("require_tree", root.name): 1} if root.name in _ORBAX else {}
    assert counts == {("fetch", root.name): 1} | searched


def _assert_once(counts: Counter[tuple[str, str]], name: str, *, searches: int = 0) -> None:
    """Require one fetch, one detection, and at most the search that ``detect`` does for the folder of a tree."""
    of_root = {way: number for (way, root), number in counts.items() if root == name}
    assert of_root == {"fetch": 1, "detect": 1} | ({"require_tree": searches} if searches else {})
