"""What a subject may offer, one sentence each. A subject lacks a capability unless its harness declares it.

A harness declares an operation by having a function of that name, and a trait by listing it in its ``TRAITS``.
"""

OPERATIONS = {
    "param_spec": "Returns path, shape and dtype of every parameter of a model without allocating any.",
    "init": "Initializes parameters from a seed.",
    "restore": "Reads the parameters of a checkpoint, in the stored dtypes or cast to one.",
    "restore_limited": "Reads a checkpoint under lower limits on what it may claim.",
    "load": "Loads a model's parameters for training, from a checkpoint, an official release, or nothing.",
    "load_for_inference": "Loads a model's parameters for serving.",
    "save": "Writes parameters as a checkpoint.",
    "download": "Copies a file or folder from a URL into a cache folder once.",
    "loss": "Computes the flow-matching loss of every action.",
    "sample_actions": "Denoises actions from given noise.",
    "embed_prefix": "Embeds images and prompt as tokens.",
    "prompt_logits": "Computes PaliGemma's logits of a prompt alone, whose tokens attend to each other.",
    "trainable": "Lists the parameters that fine-tuning changes.",
    "begin": "Puts the first state of a training onto the devices.",
    "train": "Runs optimizer steps from given parameters.",
    "resume": "Continues a training from a saved step.",
    "restore_sharded": "Reads a checkpoint onto all devices, each holding a part.",
    "join": "Joins this process to others that train together.",
    "fold": "Adds LoRA adapters to the weights they adapt.",
    "fold_checkpoint": "Writes the base checkpoint that a LoRA checkpoint folds into.",
    "convert": "Writes a checkpoint in another layout.",
    "fold_losses": "Returns the share of each adapter's delta that a fold loses to rounding.",
    "unfold": "Folds LoRA adapters in and takes them out again.",
    "extract": "Splits a LoRA model into base and adapters.",
    "merge": "Merges base and adapters into a LoRA model.",
}

TRAITS = {
    "pi0": "Has the pi0 family.",
    "pi05": "Has the pi05 family, whose action expert uses adaRMS.",
    "lora": "Has models with LoRA adapters.",
    "head_adapters": "Trains an adapter of its own for each of several attention heads.",
    "peft_training": "Trains adapters with PEFT, which has one for all heads of a projection.",
    "paligemma_alone": "Has a PaliGemma without an action expert.",
    "gemma_alone": "Has a language model without images and action expert.",
    "partial": "Accepts parameters of a part of a pi0, such as its language model alone.",
    "openpi": "Loads from openpi's own checkpoints.",
    "paligemma_npz": "Reads Google's official PaliGemma npz.",
    "hugging_face": "Reads Hugging Face's PaliGemma safetensors.",
    "resampling": "Computes position embeddings for another image size when asked.",
    "gemma_flax": "Reads Google's official Gemma for flax.",
    "openpi_pytorch": "Reads and writes openpi's PyTorch layout.",
    "lerobot": "Reads lerobot's policy folders.",
    "peft_adapter": "Loads a PEFT adapter onto a base in openpi's PyTorch layout.",
    "every_layout": "Writes every layout that can hold a checkpoint, or its PaliGemma part.",
    "load_report": "Reports what a load did to every parameter.",
    "openpi_keys": "Draws the noise and time that openpi draws from the same jax key.",
    "float32": "Computes in float32 where the model says so.",
    "counts_compilations": "Counts how often each training step was compiled.",
    "counts_bytes": "Counts the bytes of the optimizer's state.",
    "sharding": "Trains a model that is spread over all devices.",
    "in_process": "Runs in the suite's own process.",
    "guarded": "Guards against files by strangers, which may claim too much or lead out of their folder.",
    "dropout": "Drops values while training where the model says so.",
    "moving_average": "Keeps a moving average of the parameters while training.",
}

CAPABILITIES = OPERATIONS | TRAITS
