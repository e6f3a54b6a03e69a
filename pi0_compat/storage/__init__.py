"""Bytes: streams, digests, atomic writes, downloads, placement on devices. Knows no model and no format."""
