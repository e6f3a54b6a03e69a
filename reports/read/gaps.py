"""List what has not been measured, derived from what has been."""

from collections.abc import Sequence

from reports.read.merged import Entry

_WORKLOADS = {"load": "loads", "step": "training steps", "sampling": "sampling", "lora": "LoRA operations"}
_NEVER = (
    "Energy.",
    "Several hosts.",
    "Tiny sizes only show that benchmarks run; their times are dominated by Python and are on no chart.",
    "Released weights: every checkpoint is generated from a seed, with the sizes of released models.",
)


def gaps(merged: Sequence[Entry]) -> list[str]:
    """Return sentences about what is missing from merged entries."""
    accelerated = [entry for entry in merged if entry.run.result["environment"]["accelerators"]]
    cold = [entry for entry in merged if entry.valid and entry.cell["options"].get("temperature") == "cold"]
    sentences = (
        []
        if accelerated
        else ["No machine with an accelerator has been measured: device memory and MFU of GPUs and TPUs."]
    )
    sentences += [] if cold else ["Loads from a cold page cache."]
    return [*sentences, *_sizes(merged), *_absent(merged), *_NEVER]


def _sizes(merged: Sequence[Entry]) -> list[str]:
    """Return the workloads without a valid measurement, by machine and size."""
    lacking = []
    for machine in sorted({entry.machine for entry in merged}):
        measured = {(e.cell["workload"], e.cell["size"]) for e in merged if e.machine == machine and e.valid}
        for size in ("small", "full"):
            names = [name for workload, name in _WORKLOADS.items() if (workload, size) not in measured]
            lacking += [f"{machine}: {', '.join(names)} at size {size}."] if names else []
    return lacking


def _absent(merged: Sequence[Entry]) -> list[str]:
    """Return what subjects do not offer or failed to do."""
    sentences: dict[str, None] = {}
    for entry in merged:
        if entry.cell["outcome"] == "absent":
            sentences.setdefault(f"{entry.cell['reason']}.")
        elif not entry.measured:
            sentences.setdefault(f"{entry.machine}, {entry.id}, {entry.subject}: {entry.cell['reason']}.")
    return list(sentences)
