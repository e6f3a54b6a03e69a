"""Layouts of PyTorch tensors in safetensors files: openpi's, Hugging Face's, PEFT's."""
