"""The causes of silent failures that have a folder in ``reports/reproducers``, as ``causes.toml`` there lists them."""

import dataclasses
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "reports" / "reproducers"
LIST = "causes.toml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cause:
    """A cause of silent failures of one implementation.

    Attributes:
      subject: the subject's name.
      name: the name of its folder.
      law: ``contract[case]`` that shows it.
      title: the issue's title.
      cause: what goes wrong and why.
      link: the line of code or the issue where the cause is.
      by_hand: whether a person wrote the script.
      in_words: why there is no script; "" if there is one.
    """

    subject: str
    name: str
    law: str
    title: str
    cause: str
    link: str
    by_hand: bool = False
    in_words: str = ""

    @property
    def contract(self) -> str:
        """The id of the contract."""
        return self.law.partition("[")[0]

    @property
    def place(self) -> str:
        """The folder, from that of all reproducers."""
        return f"{self.subject}/{self.name}"


def read_causes(folder: Path = FOLDER) -> list[Cause]:
    """Return all causes, in the order of the list."""
    return [Cause(**entry) for entry in tomllib.loads((folder / LIST).read_text(encoding="utf-8"))["cause"]]
