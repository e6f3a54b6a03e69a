"""The text of an issue about a silent failure, in Markdown."""

import dataclasses
from collections.abc import Mapping

_TEXT = """\
# {title}

{cause}

## To reproduce

The folder has small input files and a script that calls {project} alone (numpy beside it). Run it where {project} is
installed:

```
python reproduce.py
```

It prints, with exit status 1:

```
{printed}
```

## Expected

{law}{expected}

## Versions

{versions}
{link}
Found with pi0-compat's contract `{contract}`.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Issue:
    """What an issue says.

    Attributes:
      title: one line.
      cause: what goes wrong and why, in sentences.
      law: the sentence of the contract.
      expected: what the script would print if all were right; "" if the law says it.
      project: the implementation's name.
      printed: what the script printed.
      versions: version by package.
      contract: ``contract[case]``.
      link: the line of code or the issue where the cause is; "" if it is unknown.
    """

    title: str
    cause: str
    law: str
    expected: str
    project: str
    printed: str
    versions: Mapping[str, str]
    contract: str
    link: str

    def text(self) -> str:
        """Return the Markdown."""
        versions = "\n".join(f"* {name} {version}" for name, version in self.versions.items())
        link = f"\nThe line: {self.link}\n" if self.link else ""
        expected = f" {self.expected}" if self.expected else ""
        fields = dataclasses.asdict(self) | {"versions": versions, "link": link, "expected": expected}
        return _TEXT.format(**fields)
