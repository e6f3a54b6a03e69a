"""``docs/reproducers.md``: the silent failures known of other implementations, each with a script that shows it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suite.docs.bugs import label, slug
from suite.docs.laws import all_contracts
from suite.reproduce.causes import FOLDER, Cause, read_causes

_INTRODUCTION = """\
# Silent failures of other implementations

<!-- Written by `python -m suite.docs` from reports/reproducers. Edit causes.toml there. -->

What other implementations get wrong without a word: they accept what they should refuse, or compute something else.
Each has a folder with a script of at most 60 lines that calls the implementation alone, small input files, what the
script printed, the versions, and the text of an issue. The script ends with exit status 1 as long as the failure is
there:

```bash
cd reports/reproducers/lerobot/load_errors_are_printed_only
python reproduce.py   # where lerobot is installed
```

`nox -s compat -- --reproduce NAME=PYTHON "contract[case]"` writes such a folder for any failure of a subject that is
silent. For one of yours, `--template FILE` says how its API is called; those of
[`suite/reproduce/templates`](../suite/reproduce/templates) are examples.
Crashes, hangs and checks of security have no script.
"""
_IN_WORDS = """
### Without a script
"""


def page() -> str:
    """Return the text of ``docs/reproducers.md``."""
    return render(read_causes(), FOLDER)


def render(causes: Sequence[Cause], folder: Path) -> str:
    """Return the page of a list of causes.

    Args:
      causes: the causes.
      folder: where their folders are.
    """
    lines = [_INTRODUCTION]
    for subject in dict.fromkeys(cause.subject for cause in causes):
        own = [cause for cause in causes if cause.subject == subject]
        lines.append(f"## {subject}\n")
        lines += [_entry(cause, folder) for cause in own if not cause.in_words]
        if said := [cause for cause in own if cause.in_words]:
            lines.append(_IN_WORDS)
            lines += [f"* {cause.title} ({_law(cause)}). {cause.cause} {cause.in_words}" for cause in said]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _entry(cause: Cause, folder: Path) -> str:
    facts: Mapping[str, Any] = json.loads((folder / cause.place / "facts.json").read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {version}" for name, version in list(facts["versions"].items())[1:3])
    seen = [line for line in facts["printed"] if line.startswith(("wrong: ", "right: "))][:4]
    return "\n".join(
        [
            f"### {cause.title}\n",
            f"{cause.cause}\n",
            *("```", *seen, "```\n"),
            f"* [Script, input and issue](../reports/reproducers/{cause.place}/issue.md), run with {versions}",
            f"* Found by {_law(cause)}; the cause: [{label(cause.link)}]({cause.link})\n",
        ]
    )


def _law(cause: Cause) -> str:
    """Return the contract of a cause, with a link if the contract is still there."""
    if cause.contract not in all_contracts():
        return f"`{cause.law}`"
    return f"[`{cause.law}`](contracts.md#{slug(cause.contract)})"
