"""What is not measured, from what is: a reader should not have to find out."""

from collections.abc import Sequence

from reports.read.merged import Entry

_WORKLOADS = {"load": "loads", "step": "training steps", "sampling": "sampling", "lora": "LoRA operations"}
_NEVER = (
    "Energy.",
    "Several hosts.",
    "Tiny sizes are run to see that benchmarks work; their times are Python's and are on no chart.",
    "Released weights: every checkpoint is made, at released sizes, from a seed.",
)


def gaps(found: Sequence[Entry]) -> list[str]:
    """Sentences, from merged entries."""
    accelerated = [entry for entry in found if entry.run.result["environment"]["accelerators"]]
    cold = [entry for entry in found if entry.valid and entry.cell["options"].get("temperature") == "cold"]
    told = (
        []
        if accelerated
        else ["No machine with an accelerator has been measured: device memory and MFU of GPUs and TPUs."]
    )
    told += [] if cold else ["Loads from a cold page cache."]
    return [*told, *_sizes(found), *_absent(found), *_NEVER]


def _sizes(found: Sequence[Entry]) -> list[str]:
    """Workloads that have no number at a size, by machine."""
    lacking = []
    for machine in sorted({entry.machine for entry in found}):
        had = {(e.cell["workload"], e.cell["size"]) for e in found if e.machine == machine and e.valid}
        for size in ("small", "full"):
            names = [name for workload, name in _WORKLOADS.items() if (workload, size) not in had]
            lacking += [f"{machine}: {', '.join(names)} at size {size}."] if names else []
    return lacking


def _absent(found: Sequence[Entry]) -> list[str]:
    """What subjects do not offer, or could not do."""
    told: dict[str, None] = {}
    for entry in found:
        if entry.cell["outcome"] == "absent":
            told.setdefault(f"{entry.cell['reason']}.")
        elif not entry.measured:
            told.setdefault(f"{entry.machine}, {entry.id}, {entry.subject}: {entry.cell['reason']}.")
    return list(told)
