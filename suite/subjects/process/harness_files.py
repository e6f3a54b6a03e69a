"""Where harnesses lie, and what of them is sent to another interpreter."""

from pathlib import Path

_HERE = Path(__file__).parent
FOREIGN = _HERE.parent / "foreign"
# Modules that are sent lie in a package of this name over there.
_PACKAGE = "pi0_compat_sent"
# What serves a harness; it needs numpy and the standard library.
_SERVING = ("memory", "wire", "worker")


def foreign_names() -> list[str]:
    """Return the names of the foreign harnesses: ``transformers-paligemma`` is transformers_paligemma.py."""
    return sorted(file.stem.replace("_", "-") for file in FOREIGN.glob("[!_]*.py"))


def parse(asked_as: str) -> tuple[str, str | None]:
    """``NAME[=PYTHON]`` in its two parts."""
    name, _, python = asked_as.partition("=")
    return name, python or None


def is_foreign(name: str) -> bool:
    """Whether a harness of this project runs in another interpreter, or at least in a process of its own."""
    return name in foreign_names()


def harness_file(name: str) -> Path:
    """The file of a foreign harness, or of one that is given as a path.

    Raises:
      LookupError: there is none, or it is a harness that needs this project around it.
    """
    if name.endswith(".py"):
        file = Path(name).absolute()
        if not file.is_file():
            raise LookupError(f"{file}: no such harness file")
        return file
    if not is_foreign(name):
        raise LookupError(f"{name} runs in the suite's own interpreter; another one is only for {foreign_names()}")
    return FOREIGN / f"{name.replace('-', '_')}.py"


def sources_of(file: Path) -> tuple[str, dict[str, str]]:
    """The name of a harness's module over there, and the text of all modules that have to be sent.

    A harness of this project brings its siblings along, one that is given as a path comes alone.
    """
    files = {f"{_PACKAGE}.{name}": _HERE / f"{name}.py" for name in _SERVING}
    module = f"{_PACKAGE}.harnesses.{file.stem if file.stem.isidentifier() else 'harness'}"
    if file.parent == FOREIGN:
        siblings = [part for part in FOREIGN.glob("*.py") if part.stem != "__init__"]
        files |= {f"{_PACKAGE}.harnesses.{part.stem}": part for part in siblings}
    return module, {name: part.read_text(encoding="utf-8") for name, part in (files | {module: file}).items()}
