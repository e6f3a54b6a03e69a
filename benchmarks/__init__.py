"""Benchmarks of load time, memory, LoRA training steps and sampling, and the regression gate built on them."""
