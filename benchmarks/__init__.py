"""Load time, memory and LoRA step time; the gate. Nothing is measured yet: the workloads come with a later issue."""
