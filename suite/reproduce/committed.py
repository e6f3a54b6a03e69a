"""``python -m suite.reproduce.committed NAME=PYTHON [CAUSE ...]``: write the reproducers of a subject anew.

``reports/reproducers/causes.toml`` lists them. Each script runs in the subject's interpreter, and what it prints is
recorded beside it, with the versions and the text of an issue.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from suite.reproduce import sizes
from suite.reproduce.causes import FOLDER, Cause, read_causes
from suite.reproduce.errors import CannotReproduceError
from suite.subjects.process.harness_files import parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folders of a subject's causes; return how many could not be written."""
    parser = argparse.ArgumentParser(prog="python -m suite.reproduce.committed", description=__doc__)
    parser.add_argument("subject", metavar="NAME=PYTHON", help="as --subject takes it")
    parser.add_argument("causes", nargs="*", metavar="CAUSE", help="only these (default: all of the subject)")
    parser.add_argument("--version", default="", help="the implementation's, where its checkout cannot say it")
    options = parser.parse_args(arguments)
    name = parse(options.subject)[0]
    causes = [cause for cause in read_causes() if cause.subject == name and not cause.in_words]
    if unknown := set(options.causes) - {cause.name for cause in causes}:
        parser.error(f"no such cause of {name}: {', '.join(sorted(unknown))}")
    chosen = [cause for cause in causes if not options.causes or cause.name in options.causes]
    if len(chosen) > 1:
        # One process each: contracts are imported at the sizes of a process, and pytest runs once in it.
        command = [sys.executable, "-m", "suite.reproduce.committed", options.subject]
        version = f"--version={options.version}"
        return sum(subprocess.run([*command, cause.name, version], check=False).returncode for cause in chosen)
    return sum(not _written(options.subject, cause, FOLDER / cause.place, options.version) for cause in chosen)


def _written(subject: str, cause: Cause, folder: Path, version: str) -> bool:
    """Write a folder; return whether its script shows the failure."""
    sizes.shrink()
    # The contracts are imported after the sizes are set.
    from suite.reproduce.reproducing import Story, record_by_hand, reproduce

    story = Story(cause.title, cause.cause, cause.link, version)
    try:
        if cause.by_hand:
            record_by_hand(subject, cause.law, folder, story)
        else:
            reproduce(subject, cause.law, folder, story=story)
    except CannotReproduceError as error:
        print(f"error: {cause.place}: {cause.law}: {error}", file=sys.stderr)
        return False
    print(f"wrote {cause.place}")
    return True


if __name__ == "__main__":
    sys.exit(main())
