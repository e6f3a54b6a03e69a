"""Write the folder of a reproducer, and show that its script shows the failure."""

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from suite.reproduce.errors import CannotReproduceError
from suite.reproduce.failure import Accepted, read_failure
from suite.reproduce.issue import Issue
from suite.reproduce.law import CONTRACTS, Ran, contract_named, run_law
from suite.reproduce.replay import Replay
from suite.reproduce.running import run_script, versions_in
from suite.reproduce.script import write_script
from suite.reproduce.template import find_template
from suite.session import expectations
from suite.session.find import find_subject, resolve
from suite.session.registry import Contract
from suite.subjects.process.harness_files import name_of, parse

SCRIPT, ISSUE, FACTS = "reproduce.py", "issue.md", "facts.json"


@dataclasses.dataclass(frozen=True)
class Story:
    """What a person says about a failure; what is "" comes from the expectation, or from the law.

    Attributes:
      title: the issue's title.
      cause: what goes wrong and why.
      link: the line of code or the issue where the cause is.
      version: the implementation's version, where its checkout cannot say it.
    """

    title: str = ""
    cause: str = ""
    link: str = ""
    version: str = ""


def reproduce(
    subject: str,
    law: str,
    out: Path | None = None,
    *,
    template: Path | None = None,
    contracts: Path = CONTRACTS,
    story: Story | None = None,
) -> Path:
    """Run a law, turn its silent failure into a script, run that, and write the folder.

    Args:
      subject: ``NAME[=PYTHON]``.
      law: ``contract[case]``.
      out: the folder to write; it is replaced. By default ``reproducers/<subject>/<law>``.
      template: a file with the template of a subject of the user's own.
      contracts: the folder of the contracts.
      story: what a person says about it.

    Returns:
      the folder.

    Raises:
      CannotReproduceError: the law does not fail silently here, or cannot be said in the implementation's own calls.
    """
    subject = resolve(subject)
    name, python = name_of(subject), parse(subject)[1]
    calls = find_template(name, template)
    out = (out or Path("reproducers", name, _folder_name(law))).absolute()
    with tempfile.TemporaryDirectory() as folder:
        ran = run_law(subject, law, Path(folder, "seen"), contracts)
        if ran.error is None:
            raise CannotReproduceError("passes: there is no failure to show")
        made = Path(folder, "made")
        made.mkdir()
        failure = read_failure(ran.error)
        told = _told(ran, name, story or Story())
        text = write_script(failure, Replay(ran.calls, calls, made), calls, told.title)
        (made / SCRIPT).write_text(text, encoding="utf-8")
        more = " and prints the error" if isinstance(failure, Accepted) else ""
        _finish(made, _Seen(ran.contract, law, ran.description), calls.packages, told, python, more)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)
    return out


def record_by_hand(subject: str, law: str, folder: Path, story: Story) -> None:
    """Run a script that a person wrote, and write the issue and the facts beside it.

    Args:
      subject: ``NAME[=PYTHON]``.
      law: ``contract[case]`` that finds the failure.
      folder: where the script is.
      story: what the person says about it.

    Raises:
      CannotReproduceError: the script does not show the failure, or there is no such contract.
    """
    subject = resolve(subject)
    seen = _Seen(contract_named(law), law, find_subject(subject).describe())
    _finish(folder, seen, find_template(name_of(subject)).packages, story, parse(subject)[1], "")


class _Seen(NamedTuple):
    """A law that a subject breaks."""

    contract: Contract
    law: str
    description: Mapping[str, Any]


def _finish(folder: Path, seen: _Seen, packages: tuple[str, ...], story: Story, python: str | None, more: str) -> None:
    """Run the script and write the issue and the facts beside it."""
    printed = run_script(folder / SCRIPT, python)
    if printed.code != 1 or "wrong: " not in printed.text:
        raise CannotReproduceError(
            f"the script does not show the failure (exit status {printed.code}): {printed.text}{printed.error}"
        )
    description = seen.description
    known = {**description.get("packages", {}), packages[0]: story.version or str(description.get("version", ""))}
    versions = versions_in(python, packages, known)
    issue = Issue(
        title=story.title,
        cause=story.cause,
        law=seen.contract.law,
        expected=f"The script then ends with exit status 0{more}.",
        project=packages[0],
        printed=printed.text.rstrip(),
        versions=versions,
        contract=seen.law,
        link=story.link,
    )
    (folder / ISSUE).write_text(issue.text(), encoding="utf-8")
    facts = {"subject": description["name"], "law": seen.law, "title": story.title, "versions": versions}
    facts["printed"] = printed.text.splitlines()
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _told(ran: Ran, name: str, story: Story) -> Story:
    """Return the story, with what it lacks from the expectation that knows the cause, or from the law."""
    version = str(ran.description.get("version", ""))
    entries = expectations.read(expectations.FOLDER / f"{name}.toml", version)
    entry = next((one for one in entries if one.covers(ran.contract.id, ran.case)), None)
    cause = story.cause or (entry.reason if entry else f"This does not hold: {ran.contract.law}")
    title = story.title or f"{name}: {cause.partition('.')[0]}"
    return Story(title, cause, story.link or (entry.link if entry else ""), story.version)


def _folder_name(law: str) -> str:
    return law.replace("[", "-").removesuffix("]")
