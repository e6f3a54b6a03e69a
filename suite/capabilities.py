"""What a subject may offer, one sentence each. A capability is closed unless an adapter declares it.

Operations are declared by being there: an adapter's function of that name. Traits are declared in its ``TRAITS``.
"""

OPERATIONS = {
    "param_spec": "Tells path, shape and dtype of every parameter of a model without allocating one.",
    "init": "Makes fresh parameters from a seed.",
    "restore": "Reads the parameters of a checkpoint as they are stored, or cast to one dtype.",
    "load": "Gives a model its parameters for training, from a checkpoint, an official release, or nothing.",
    "load_for_inference": "Gives a model its parameters for serving.",
    "save": "Writes parameters as a checkpoint.",
    "loss": "Computes the flow-matching loss of every action.",
    "sample_actions": "Denoises actions from given noise.",
    "embed_prefix": "Embeds images and prompt as tokens.",
    "trainable": "Tells which parameters fine-tuning changes.",
    "train": "Makes optimizer steps from given parameters.",
    "resume": "Makes the same steps, saved and resumed in between.",
    "fold": "Adds LoRA adapters to the weights that they adapt.",
}

TRAITS = {
    "pi0": "Has the pi0 family.",
    "pi05": "Has the pi05 family, whose action expert uses adaRMS.",
    "lora": "Has models with LoRA adapters.",
    "paligemma_npz": "Reads Google's official PaliGemma npz.",
    "load_report": "Tells what a load did to every parameter.",
    "openpi_keys": "Draws the noise and time that openpi draws from the same jax key.",
    "moving_average": "Keeps a moving average of the parameters while training.",
}

CAPABILITIES = OPERATIONS | TRAITS
