"""The terminal summary as users see it."""

from typing import Any

from suite.session.summary import summarize

GOLDEN = """\
subject toy
failures: 1 silent (0 known)
area   contracts  cases  pass  fail  absent  error  seconds
load           2      3     1     1       0      1      3.5
save           1      2     0     0       2      0      0.0
-----------------------------------------------------------
total          3      5     1     1       2      1      3.5
not run: 2 cases, does not declare save
fail, silent: load.is_whole[b] A load is whole. (a/w is missing)
error: load.is_quiet A load is quiet. (no disk)
subject other
area   contracts  cases  pass  fail  seconds
load           1      1     1     0      1.2
--------------------------------------------
total          1      1     1     0      1.2
passed / run, + known failures
area   toy  other
load   1/3    1/1
save     -      -
-----------------
total  1/3    1/1"""


def row(contract: str, outcome: str, **changes: Any) -> dict[str, Any]:
    """Return a row of the subject toy."""
    law = f"A {contract.replace('.', ' ').replace('_', ' ')}."
    defaults: dict[str, Any] = {"case": "", "subject": "toy", "seconds": 0.0, "message": ""}
    failure = {"severity": "silent", "raised": "AssertionError", "needs": ["load"]}
    defaults |= failure if outcome in ("fail", "known") else {}
    return {"contract": contract, "law": law, "outcome": outcome, **defaults, **changes}


def test_summary_is_readable() -> None:
    """Each subject has a table of areas, the reasons for cases that did not run, and every broken law."""
    absence = "does not declare save"
    rows = [
        row("save.is_whole", "absent", case="a", message=absence),
        row("save.is_whole", "absent", case="b", message=absence),
        row("load.is_whole", "pass", case="a", seconds=2.25),
        row("load.is_whole", "fail", case="b", seconds=1.25, message="a/w is missing"),
        row("load.is_whole", "pass", subject="other", seconds=1.2),
        row("load.is_quiet", "error", message="no disk"),
    ]
    assert "\n".join(summarize(rows)) == GOLDEN


def test_silent_failures_come_first_and_alike_ones_are_one_line() -> None:
    """Failures are listed by severity; those of one cause as a line with the law that needs least, and a count."""
    wrong = {"message": "AssertionError: 2 of 9 parameters differ", "needs": ["save", "load"]}
    crash = {"severity": "crash", "raised": "KeyError", "message": "KeyError: 'a'"}
    why = {"expectation": {"reason": "It was.", "link": "https://example.org"}, "severity": "unclear"}
    rows = [
        *(row("load.names", "known", case=case, **why) for case in "ab"),
        row("load.is_quick", "fail", **crash),
        *(row("damage.is_seen", "fail", case=str(n), **wrong) for n in range(15)),
        row("load.is_whole", "fail", message="AssertionError: 3 of 9 parameters differ"),
    ]
    lines = summarize(rows)
    assert lines[1] == "failures: 16 silent (0 known), 1 crash (0 known), 2 unclear (2 known)"
    alike = "[16 cases alike, also of damage.is_seen]"
    assert lines[-3:] == [
        "known, unclear: load.names[a] It was. (https://example.org) [2 cases alike]",
        f"fail, silent: load.is_whole A load is whole. ({rows[-1]['message']}) {alike}",
        "fail, crash: load.is_quick A load is quick. (KeyError: 'a')",
    ]


def test_nothing_to_summarize() -> None:
    """Without rows there are no lines."""
    assert summarize([]) == []
