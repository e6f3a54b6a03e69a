"""A project folder with result files of toys: a run of the contracts, a museum, and benchmarks of two machines."""

import copy
import json
from pathlib import Path
from typing import Any

from tests.reports import toy_benchmarks as benchmarks
from tests.reports.toy_runs import Json, header, row, subject, write, write_run

# The pages with parts that are written between markers, before anything is.
MARKED = {
    "README.md": "# Toys\n\n<!-- headline -->\n<!-- /headline -->\n",
    "docs/results.md": "# Results\n\n<!-- matrix -->\n<!-- /matrix -->\n\nThe end.\n",
    "docs/benchmarks.md": "<!-- speed -->\n<!-- /speed -->\n<!-- commands -->\n<!-- /commands -->\n",
}
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> `a|b` & __c__"
SLOW, FAST = "cpu-2-core-toy", "toy-accelerator"
ACCELERATOR = {"kind": "Toy 9000", "count": 1, "memory_bytes": 80 << 30}


def make(root: Path) -> Path:
    """Write the whole project; every text from outside is hostile."""
    write_contracts(root)
    write_museum(root)
    write_result(root, benchmarks.result())
    write_result(root, other_machine())
    write_marked(root)
    return root


def write_marked(root: Path) -> None:
    """Write the hand-written pages of the project, with empty generated parts."""
    for name, text in MARKED.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def write_contracts(root: Path, **changes: Any) -> Path:
    """Write a run of the reference and of a toy that breaks contracts."""
    rows = [
        *(row(name, subject="reference") for name in ("load.is_whole", "load.is_quiet", "save.is_whole")),
        row("load.is_whole", "known", case="a", message=HOSTILE),
        row("load.is_whole", case="b"),
        row("save.is_quick", "fixed"),
        row("load.is_quiet", "fail", message=HOSTILE, severity="crash", law=f"A law. {HOSTILE}"),
        row("save.is_whole", "absent", message=HOSTILE),
    ]
    head = header(subject("reference", None), subject(version=f"1.2{HOSTILE}"), **changes)
    return write_run(root / "reports" / "compat" / "toys.jsonl", head, *rows)


def write_museum(root: Path, caught: int = 2, names: tuple[str, str] = ("met", "thought_of"), **changes: Any) -> Path:
    """Write two faults; one of them occurred in practice."""
    head = {key: value for key, value in header(schema_version=1).items() if key != "subjects"}
    common = {"kind": "row", "evidence": "https://example.org/issues/7", "passed": 1, **changes}
    faults = [
        {
            **common,
            "fault": names[0],
            "story": f"It was met. {HOSTILE}",
            "bugs": ["A1"],
            "caught_by": {"load.is_whole": "a"},
        },
        {**common, "fault": names[1], "story": "Nobody met it.", "bugs": [], "caught_by": {"load.is_quiet": ""}},
    ]
    faults[1]["evidence"] = "javascript:document.title='owned'"
    end = {"kind": "footer", "rows": 2, "caught": caught}
    return write(
        root / "reports" / "faults.jsonl", {**head, "contracts": ["load.is_whole", "load.is_quiet"]}, *faults, end
    )


def write_result(root: Path, result: Json) -> Path:
    """Write a result file of the benchmarks into its machine's folder."""
    name = f"{result['run']['id'].replace(':', '')}.json"
    file = root / "reports" / "results" / result["environment"]["slug"] / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result), encoding="utf-8")
    return file


def other_machine(times_as_fast: float = 4.0, **changes: Any) -> Json:
    """Return the same run on a machine with an accelerator that is `times_as_fast`."""
    result = copy.deepcopy(benchmarks.result(**changes))
    result["environment"] = {**benchmarks.environment(ACCELERATOR), "slug": FAST}
    result["ceilings"]["matmul_tflops"] = {"bfloat16": 400.0, "float32": 50.0}
    result["run"] |= {"id": "2026-11-22T09:00:00Z-1a2b3c4", "started": "2026-11-22T09:00:00Z"}
    for cell in result["cells"]:
        for sample in cell["samples"]:
            sample["wall_s"] /= times_as_fast
    return result
