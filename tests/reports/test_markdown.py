"""Markdown that shows exactly the text it was made from."""

import pytest

from reports.pages.markdown import between, link, plain, table


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("A load is whole.", "A load is whole."),
        ("two\n  lines\t", "two lines"),
        ("`params` and lora_b", "`params` and lora_b"),
        ("`a*b_` *c* __d__ [e](f) <g> & ~~h~~", r"`a*b_` \*c\* \_\_d\_\_ \[e\](f) &lt;g&gt; &amp; \~\~h\~\~"),
        ("a ` b", r"a \` b"),
        ("back\\slash", r"back\\slash"),
    ],
)
def test_text_is_shown_as_it_is(text: str, markdown: str) -> None:
    """Nothing in a text is markup, except code between backticks."""
    assert plain(text) == markdown


def test_a_bar_is_no_border() -> None:
    """Code with a bar stays in its table cell too; columns are aligned, except those with long cells."""
    assert table(["area", "law", "cell"], [["`a|b`", "l" * 61, "x | y"], ["c", "d", "e"]]) == [
        r"| area   | law | cell   |",
        r"| ------ | --- | ------ |",
        rf"| `a\|b` | {'l' * 61} | x \| y |",
        r"| c      | d   | e      |",
    ]


def test_a_link_ends_where_it_should() -> None:
    assert link("it", "https://example.org/a(b) c#L1") == "[it](https://example.org/a%28b%29%20c#L1)"


def test_a_part_is_put_between_its_markers() -> None:
    """Old content is replaced, everything else stays, and doing it again changes nothing."""
    page = "# A\n\n<!-- b -->\nold\n\nolder\n<!-- /b -->\nrest of `<!-- b -->`\n"
    replaced = between(page, "b", "new\n", file="A.md")
    assert replaced == "# A\n\n<!-- b -->\nnew\n<!-- /b -->\nrest of `<!-- b -->`\n"
    assert between(replaced, "b", "new\n", file="A.md") == replaced


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("<!-- /b -->", r"^A.md: expected one line <!-- b -->, found 0; add or remove it$"),
        ("<!-- b -->", r"^A.md: expected one line <!-- /b -->, found 0; add or remove it$"),
        ("<!-- b -->\n<!-- b -->\n<!-- /b -->", r"^A.md: expected one line <!-- b -->, found 2 in lines 1, 2; "),
        ("\n<!-- /b -->\n<!-- b -->", r"^A.md:2: expected <!-- b --> before <!-- /b -->, found it after$"),
    ],
)
def test_missing_markers_are_named(page: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        between(page, "b", "new", file="A.md")
