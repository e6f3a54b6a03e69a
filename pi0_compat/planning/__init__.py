"""What a training or a model in service needs of a device, computed without weights and without an accelerator."""
