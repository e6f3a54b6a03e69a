"""What a template says about an implementation: how its own API is called, in Python that needs nothing else."""

import ast
import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from suite.reproduce.errors import CannotReproduceError

Arrays = Mapping[str, Any]
_FOLDER = Path(__file__).with_name("templates")


def _itself(spec: Any) -> Any:
    """Return the spec."""
    return spec


def _as_they_are(spec: Any, params: Arrays) -> Arrays:
    """Return params under the names that they have."""
    return params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Template:
    """How an implementation is called.

    Attributes:
      packages: the packages whose versions matter, the implementation's first.
      setup: imports, and the functions that the calls share.
      calls: the source of one function per operation, named after it; it takes the parameters of the operation that
        it needs. A load from one kind of source only is ``load:<kind>``, and takes ``path`` (and ``adapter``).
        ``accepts:<kind>`` is another load for laws that expect an error, if making a whole model takes long: it returns
        None for what the file lacks. ``stored:<kind>`` returns what a file holds, under the names of a load's result.
      unused: parameters of an operation that a function may leave out, since they do not change what is compared.
      config: a model's spec of the suite -> the implementation's own options of that model, as plain data. A function's
        parameter ``model`` gets them.
      native: params of the suite (their model's spec and the params) -> the same under the names of the calls' results.
    """

    packages: tuple[str, ...]
    setup: str
    calls: Mapping[str, str]
    unused: tuple[str, ...] = ()
    config: Callable[[Any], Any] = _itself
    native: Callable[[Any, Arrays], Arrays] = _as_they_are

    def source(self, operation: str, kind: str = "") -> str:
        """Return the source of the function for an operation.

        Raises:
          CannotReproduceError: the template has none.
        """
        for name in (f"{operation}:{kind}", operation):
            if name in self.calls:
                return self.calls[name].strip("\n")
        of_kind = f" from {kind}" if kind else ""
        raise CannotReproduceError(f"the template of {self.packages[0]} has no call for {operation}{of_kind}")

    def has(self, operation: str, kind: str = "") -> bool:
        """Return whether there is a function for an operation."""
        return f"{operation}:{kind}" in self.calls or operation in self.calls

    def parameters(self, operation: str, kind: str = "") -> list[str]:
        """Return the parameters of the function for an operation."""
        function = next(
            node for node in ast.parse(self.source(operation, kind)).body if isinstance(node, ast.FunctionDef)
        )
        return [argument.arg for argument in function.args.args]


def find_template(subject: str, file: Path | None = None) -> Template:
    """Return the template of a subject.

    Args:
      subject: the subject's name.
      file: a file with a ``TEMPLATE``; None for one of those that come with the suite.

    Raises:
      CannotReproduceError: there is none.
    """
    if file:
        spec = importlib.util.spec_from_file_location(f"template_{file.stem}", file)
        if spec is None or spec.loader is None or not file.is_file():
            raise CannotReproduceError(f"--template {file}: no such Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return _template_of(module)
    known = sorted(path.stem.replace("_", "-") for path in _FOLDER.glob("[!_]*.py"))
    if subject not in known:
        raise CannotReproduceError(
            f"there is no template for {subject}: it says how the API of an implementation is called; "
            f"there are {', '.join(known)}; give one of your own with --template FILE"
        )
    return _template_of(importlib.import_module(f"suite.reproduce.templates.{subject.replace('-', '_')}"))


def _template_of(module: Any) -> Template:
    found = getattr(module, "TEMPLATE", None)
    if not isinstance(found, Template):
        raise CannotReproduceError(f"{module.__name__}: has no TEMPLATE of type suite.reproduce.template.Template")
    return found
