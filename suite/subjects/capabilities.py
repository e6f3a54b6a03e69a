"""What a subject may offer, one sentence each. A capability is closed unless a harness declares it.

Operations are declared by being there: a harness's function of that name. Traits are declared in its ``TRAITS``.
"""

OPERATIONS = {
    "param_spec": "Tells path, shape and dtype of every parameter of a model without allocating one.",
    "init": "Makes fresh parameters from a seed.",
    "restore": "Reads the parameters of a checkpoint as they are stored, or cast to one dtype.",
    "load": "Gives a model its parameters for training, from a checkpoint, an official release, or nothing.",
    "load_for_inference": "Gives a model its parameters for serving.",
    "save": "Writes parameters as a checkpoint.",
    "download": "Copies a file or folder from a URL into a cache folder once.",
    "loss": "Computes the flow-matching loss of every action.",
    "sample_actions": "Denoises actions from given noise.",
    "embed_prefix": "Embeds images and prompt as tokens.",
    "trainable": "Tells which parameters fine-tuning changes.",
    "begin": "Reads what a training starts from onto the devices.",
    "train": "Makes optimizer steps from given parameters.",
    "resume": "Goes on from a saved step of a training.",
    "restore_sharded": "Reads a checkpoint onto all devices, each holding its part.",
    "join": "Makes this process one of several that train together.",
    "fold": "Adds LoRA adapters to the weights that they adapt.",
    "fold_checkpoint": "Makes a base checkpoint of a LoRA checkpoint.",
    "convert": "Writes a checkpoint in another layout.",
    "fold_losses": "Tells which share of each adapter's delta a fold loses to rounding.",
    "unfold": "Folds LoRA adapters in and takes them out again.",
    "extract": "Parts a LoRA model into base and adapters.",
    "merge": "Makes a LoRA model of base and adapters.",
}

TRAITS = {
    "pi0": "Has the pi0 family.",
    "pi05": "Has the pi05 family, whose action expert uses adaRMS.",
    "lora": "Has models with LoRA adapters.",
    "partial": "Takes parameters of a part of a pi0, such as its language model alone.",
    "openpi_orbax": "Loads from openpi's own checkpoints.",
    "paligemma_npz": "Reads Google's official PaliGemma npz.",
    "hugging_face": "Reads Hugging Face's PaliGemma safetensors.",
    "resampling": "Computes position embeddings for another image size when asked.",
    "gemma_flax": "Reads Google's official Gemma for flax.",
    "openpi_pytorch": "Reads and writes openpi's PyTorch layout.",
    "peft_adapter": "Loads a PEFT adapter onto a base in openpi's PyTorch layout.",
    "every_layout": "Writes every layout that has a place for a checkpoint, or for the PaliGemma part of one.",
    "load_report": "Tells what a load did to every parameter.",
    "openpi_keys": "Draws the noise and time that openpi draws from the same jax key.",
    "float32": "Computes in float32 where the model says so.",
    "counts_compilations": "Tells how often each training step was compiled.",
    "counts_bytes": "Tells how many bytes the optimizer's state takes.",
    "sharding": "Trains a model that is spread over all devices.",
    "in_process": "Runs in the suite's own process.",
    "dropout": "Drops values while training where the model says so.",
    "moving_average": "Keeps a moving average of the parameters while training.",
}

CAPABILITIES = OPERATIONS | TRAITS
