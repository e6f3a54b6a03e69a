"""The generated pages match the code, and Markdown shows their text literally."""

import argparse
import dataclasses

import pi0_compat
from suite.docs import api, commands, contracts
from suite.session.registry import Contract


def law(**changes: object) -> Contract:
    """Return a contract of an area that does not exist."""
    fields = {"id": "toys.a_law", "law": "A law.", "source": "a page", "needs": ("load",)}
    return Contract(**(fields | changes))  # type: ignore[arg-type]


def test_contracts_are_listed_by_area() -> None:
    """Each contract has its heading, law, source and needs; an area has its number of contracts."""
    laws = [law(id="toys.b"), law(id="games.c", needs=()), law(id="toys.a")]
    page = contracts.render(laws, {"toys": "Of toys.", "games": "Of games."})
    assert "3 contracts in 2 areas" in page
    assert "| [toys](#toys) | 2 | Of toys. |" in page
    assert page.index("### games.c") < page.index("### toys.a") < page.index("### toys.b")
    assert "### toys.a\n\nA law.\n\n* Source: a page\n* Needs: `load`\n" in page
    assert "* Needs: nothing" in page


def test_sources_are_links() -> None:
    """Bugs, rules, issues of known repositories, and papers are links; other text stays text."""
    source = "arXiv:2106.09685 section 4.1; openpi #396, #958; lerobot PR #2996; docs/bugs.md#a5, #rule-1; README"
    page = contracts.render([law(source=source)], {"toys": "Of toys."})
    assert "[arXiv:2106.09685](https://arxiv.org/abs/2106.09685) section 4.1" in page
    assert "[openpi #396](https://github.com/Physical-Intelligence/openpi/issues/396)" in page
    assert "[#958](https://github.com/Physical-Intelligence/openpi/issues/958)" in page
    assert "(https://github.com/huggingface/lerobot/issues/2996)" in page
    assert "[A5](bugs.md#a5), [rule-1](bugs.md#rule-1); README" in page


def test_text_is_escaped() -> None:
    """Stars and brackets are shown literally; code between backticks stays code."""
    page = contracts.render([law(law="Of [x, y] and `a_b*` and 2*3 < 7.")], {"toys": "Of toys."})
    assert r"Of \[x, y\] and `a_b*` and 2\*3 &lt; 7." in page


def test_every_argument_of_a_command_is_described() -> None:
    """The page has positional and optional arguments, choices, flags, and which are required."""
    parser = argparse.ArgumentParser(description="Do it.\n\n  a  one\n  b  two", epilog="examples:\n  do it\n\nstatus")
    parser.add_argument("path", metavar="PATH", help="where")
    parser.add_argument("-o", "--out", required=True, help="to <where>")
    parser.add_argument("--kind", choices=("a", "b"), help="which")
    parser.add_argument("--all", action="store_true", help="all of it")
    text = commands.section("do", parser)
    assert "pi0-compat do PATH -o OUT [OPTION ...]" in text
    assert "Do it.\n\n```text\n  a  one\n  b  two\n```" in text
    assert "| `PATH` | where |" in text
    assert "| `-o OUT`, `--out OUT` | required; to &lt;where&gt; |" in text
    assert "| `--kind {a,b}` | which |" in text
    assert "| `--all` | all of it |" in text
    assert text.rstrip().endswith("```text\nexamples:\n  do it\n```")
    assert "status" not in text


@dataclasses.dataclass(frozen=True)
class Toy:
    """A toy for [children].

    Attributes:
      name: what it is called,
        by ``everybody``.
    """

    name: str = "bear"
    _secret: int = 0

    @property
    def length(self) -> int:
        """Return the length of the name."""
        return len(self.name)

    def play(self, hours: float, *games: str, alone: bool = False) -> list[str]:
        """Play.

        Returns:
          What was played.

        Raises:
          ValueError, KeyError: nothing to play.
        """
        return [*games, str(hours), str(alone)]


def test_a_class_shows_its_fields_and_methods() -> None:
    """Public members are shown with signatures as written and docstrings as Markdown."""
    text = api.entry("Toy", Toy)
    assert "```python\nclass Toy\n    name: str = 'bear'\n```" in text
    assert r"A toy for \[children\]." in text
    assert "*Attributes*\n\n* `name`: what it is called, by `everybody`.\n" in text
    assert "**length**\n\nReturn the length of the name." in text
    assert "play(hours: float, *games: str, alone: bool = False) -> list[str]" in text
    assert "*Returns*\n\n* What was played.\n" in text
    assert "* `ValueError, KeyError`: nothing to play." in text
    assert "_secret" not in text


def long(
    first: dict[str, int], /, second: tuple[int, ...] = (1, 2), *, third: str = "a long default value", **rest: int
) -> None:
    """Take much."""


def test_a_long_signature_has_a_line_per_parameter() -> None:
    """A comma in a default or an annotation does not start a new line."""
    expected = """\
long(
    first: dict[str, int],
    /,
    second: tuple[int, ...] = (1, 2),
    *,
    third: str = 'a long default value',
    **rest: int,
) -> None
"""
    assert expected in api.entry("long", long)


def test_every_public_name_has_a_section() -> None:
    """Each once, under the heading of its folder; results of functions follow."""
    public, _, _ = api.page().partition("## Results")
    headings = [line.removeprefix("### ") for line in public.splitlines() if line.startswith("### ")]
    assert sorted(headings) == sorted(pi0_compat.__all__)


def test_results_are_what_functions_return_and_what_that_holds() -> None:
    """Public names have a section of their own."""
    results = api.returned([pi0_compat.check_checkpoint, pi0_compat.get_config, pi0_compat.TrainConfig])
    assert {"Check", "Fit", "Verdict", "Finding"} <= results.keys()
    assert "TrainConfig" not in results
