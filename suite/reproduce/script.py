"""Write the script of a reproducer: the template's functions, the calls of the law, and what is wrong."""

import re
from collections.abc import Sequence

from suite.reproduce.errors import CannotReproduceError
from suite.reproduce.failure import Accepted, Different, Failure
from suite.reproduce.prune import used_part
from suite.reproduce.recording import Call
from suite.reproduce.replay import Replay, kind_of, variable
from suite.reproduce.template import Template
from suite.reproduce.values import ONE, View, differing, view_that_holds

MOST_LINES = 60
MOST_ARRAYS = 3
MOST_DESCRIBED = 5

_IMPORTS = """\
import json
import sys
import tempfile
from pathlib import Path
import numpy as np
"""
_REPORT = """
def report(found, right):
    wrong = [name for name in sorted(right) if name not in found or not {equal}]
    for name in wrong[:3]:
        x, y = np.asarray(found.get(name, [])), np.asarray(right[name])
        at = np.unravel_index(np.argmax(x != y), y.shape) if x.shape == y.shape else ()
        where = f"{{name}}{{[*map(int, at)] if at else ''}}"
        print(f"wrong: {{where}} is {{x[at] if at else 'missing' if name not in found else x.shape}}")
        print(f"right: {{where}} is {{y[at] if at else y.shape}}")
    print(f"{{len(wrong)}} of {{len(right)}} arrays are wrong")
    return int(len(wrong) > 0)
"""
_DESCRIBE = """
def describe(stored, loaded, again):
    for name in sorted(stored.keys() | loaded.keys()):
        of_file, x, y = (np.asarray(tree.get(name, [])).ravel() for tree in (stored, loaded, again))
        if name not in loaded:
            yield f"wrong: {name} of the file is nowhere in the model"
<FRESH>        elif name in stored and (of_file.dtype.kind in "biuc" or not np.array_equal(of_file, x)):
            at = np.argmax(x != of_file) or np.argmax(abs(of_file))
            yield f"wrong: {name} is {x[at]}, in the file {of_file[at]} ({of_file.dtype})"
"""
# How fresh numbers show: as nothing after a light load, as other numbers after another load.
_NOTHING = """\
        elif loaded[name] is None:
            yield f"wrong: {name} is not in the file, so training starts there with random numbers"
"""
_OTHERS = """\
        elif not np.array_equal(x, y):
            yield f"wrong: {name} is random, other numbers in each load: {x[x != y][0]}, {y[x != y][0]}"
"""


def write_script(failure: Failure, replay: Replay, template: Template, title: str) -> str:
    """Return the text of a script that shows a failure. If it would be too long, it does not describe what was loaded.

    Args:
      failure: what the law found wrong.
      replay: the calls of the law.
      template: how the implementation is called.
      title: the first line of the docstring.

    Raises:
      CannotReproduceError: the template lacks a call, or the values come from no call.
    """
    text = _script(failure, replay, template, title, describes=True)
    if len(text.splitlines()) > MOST_LINES:
        text = _script(failure, replay, template, title, describes=False)
    if (lines := len(text.splitlines())) > MOST_LINES:
        raise CannotReproduceError(f"the script would have {lines} lines, more than {MOST_LINES}")
    return text


def _script(failure: Failure, replay: Replay, template: Template, title: str, *, describes: bool) -> str:
    if isinstance(failure, Accepted):
        calls, body = _accepted(failure, replay, describes=describes)
    else:
        calls, body = _different(failure, replay, template)
    functions = _functions(calls, template, accepts=isinstance(failure, Accepted))
    text = "\n".join(body)
    if "describe(" in text:
        functions += [template.source("stored", kind_of(calls[-1])), _description(template, calls[-1])]
    if "report(" in text:
        functions.append(_report(failure))
    # One empty line between functions, as every line counts.
    rest = "\n\n".join([*functions, "\n".join([*replay.constants(text), *body])])
    setup = used_part(_IMPORTS + template.setup.strip("\n"), rest)
    return re.sub(r"\n{3,}", "\n\n", f'"""{_plain(title)}."""\n\n{setup}\n\n{rest}\n')


def _report(failure: Failure) -> str:
    """Return the function that compares, with a tolerance only if the law has one."""
    tolerance = f"rtol={failure.rtol}, atol={failure.atol}" if isinstance(failure, Different) and failure.rtol else ""
    equal = (
        f"np.allclose(found[name], right[name], {tolerance})"
        if tolerance
        else "np.array_equal(found[name], right[name])"
    )
    return _REPORT.format(equal=equal).strip("\n")


def _functions(calls: Sequence[Call], template: Template, *, accepts: bool) -> list[str]:
    """Return the function of every operation that is called, each once."""
    found: dict[str, str] = {}
    for call in calls:
        light = accepts and _is_light(template, call)
        source = template.source("accepts" if light else call.operation, kind_of(call))
        if found.setdefault(call.operation, source) != source:
            raise CannotReproduceError(f"the law calls {call.operation} with sources of two kinds")
    return list(found.values())


def _accepted(failure: Accepted, replay: Replay, *, describes: bool) -> tuple[list[Call], list[str]]:
    """Return the calls before the one that should have raised, and the lines that make it."""
    done = [call for call in replay.calls if call.error is None]
    if not done:
        raise CannotReproduceError(
            "calls no operation of the subject in this process; calls in a process of their own are not recorded"
        )
    last = done[-1]
    calls = replay.needed([last])
    named = ", ".join(failure.mentions) or "the cause"
    lines = [f"{variable(call)} = {replay.line(call)}" for call in calls[:-1]]
    lines += [
        "try:",
        f"    {variable(last)} = {replay.line(last)}",
        "except Exception as error:",
        '    sys.exit(print(f"right: refused: {error}"))',
        f'print("wrong: {last.operation} raises no error", "right: an error that names {_plain(named)}", sep="\\n")',
    ]
    if describes and last.operation == "load" and (stored := replay.stored(last)):
        again = variable(last) if _is_light(replay.template, last) else replay.line(last, seed=1)
        lines.append(f'print(*list(describe({stored}, {variable(last)}, {again}))[:{MOST_DESCRIBED}], sep="\\n")')
    return calls, [*lines, "sys.exit(1)"]


def _different(failure: Different, replay: Replay, template: Template) -> tuple[list[Call], list[str]]:
    """Return the calls that the wrong values come from, and the lines that compare them."""
    names = differing(failure.found, failure.right, failure.rtol, failure.atol)
    shown = {name: failure.found[name] for name in names if name in failure.found} or dict(failure.found)
    found = view_that_holds(shown, replay.calls)
    if found is None:
        raise CannotReproduceError(
            f"compares values that no call of the subject returned ({', '.join(list(shown)[:3])}); it computes them"
        )
    right = view_that_holds({name: failure.right[name] for name in names}, replay.calls, but=found)
    calls = replay.needed([view.call for view in (found, right) if view])
    lines = [f"{variable(call)} = {replay.line(call)}" for call in calls]
    expected = replay.view(right) if right else replay.arrays(_expected(failure, found, names, template), "expected")
    actual = replay.view(found)
    if found.arrays.keys() == {ONE}:
        label = _label(found, names[0])
        actual, expected = f'{{"{label}": {actual}}}', f'{{"{label}": {expected}}}' if right else expected
    elif right:
        # The law compares the names that both have.
        expected = f"{{name: x for name, x in {expected}.items() if name in {actual}}}"
    return calls, [*lines, f"sys.exit(report({actual}, {expected}))"]


def _expected(failure: Different, found: View, names: Sequence[str], template: Template) -> dict[str, object]:
    """Return the smallest arrays that are right and were not found, under the implementation's names."""
    if found.arrays.keys() == {ONE} or found.written:
        return {_label(found, name): failure.right[name] for name in names[:MOST_ARRAYS]}
    spec = found.call.arguments.get("model")
    whole = {**found.arrays, **{name: failure.right[name] for name in names}}
    right, wrong = template.native(spec, whole), template.native(spec, found.arrays)
    return {name: right[name] for name in differing(wrong, right, failure.rtol, failure.atol)[:MOST_ARRAYS]}


def _is_light(template: Template, call: Call) -> bool:
    """Return whether a load need not make a model to show what is accepted."""
    return call.operation == "load" and template.has("accepts", kind_of(call))


def _description(template: Template, call: Call) -> str:
    """Return the function that describes what was loaded."""
    return _DESCRIBE.strip("\n").replace("<FRESH>", _NOTHING if _is_light(template, call) else _OTHERS)


def _label(found: View, name: str) -> str:
    """Return what a report calls an array; a result without a name is called after the operation."""
    return found.call.operation if name == ONE else name


def _plain(text: str) -> str:
    """Return text that fits into a string in double quotes, without the names of temporary folders."""
    return re.sub(r'["\\]', "'", text)
