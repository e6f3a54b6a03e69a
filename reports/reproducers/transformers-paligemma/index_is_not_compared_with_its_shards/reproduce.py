"""If two shards have a tensor of one name, either one is used, against the index."""

import json
import sys
from pathlib import Path
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import GenerationConfig, PaliGemmaConfig, PaliGemmaForConditionalGeneration

def load(model, path, seed):
    torch.manual_seed(seed)
    loaded, info = PaliGemmaForConditionalGeneration.from_pretrained(
        path, config=PaliGemmaConfig(**model), generation_config=GenerationConfig(),
        dtype=torch.float32, output_loading_info=True)
    print("loading report:", {kind: sorted(map(str, names)) for kind, names in info.items() if names})
    return {name: x.numpy() for name, x in loaded.state_dict().items()}

def stored(path):
    tensors = {}
    for file in sorted(path.glob("*.safetensors")):
        found = {name.replace(".vision_model.", "."): x.numpy() for name, x in load_file(file).items()}
        tensors |= {f"{name} in {file.name}" if name in tensors else name: x for name, x in found.items()}
    return tensors

def describe(stored, loaded, again):
    for name in sorted(stored.keys() | loaded.keys()):
        of_file, x, y = (np.asarray(tree.get(name, [])).ravel() for tree in (stored, loaded, again))
        if name not in loaded:
            print(f"wrong: {name} of the file is nowhere in the model")
        elif not np.array_equal(x, y):
            print(f"wrong: {name} is random, other numbers in each load: {x[x != y][0]}, {y[x != y][0]}")
        elif name in stored and (of_file.dtype.kind in "biuc" or not np.array_equal(of_file, x)):
            at = np.argmax(x != of_file) or np.argmax(abs(of_file))
            print(f"wrong: {name} is {x[at]}, in the file {of_file[at]} ({of_file.dtype})")

HERE = Path(__file__).parent
MODEL = json.loads((HERE / "input/model.json").read_text())
try:
    load_0 = load(model=MODEL, path=HERE / "input/release", seed=0)
except Exception as error:
    sys.exit(print(f"right: refused: {error}"))
print("wrong: load raises no error", "right: an error that names release", sep="\n")
describe(stored(path=HERE / "input/release"), load_0, load(model=MODEL, path=HERE / "input/release", seed=1))
sys.exit(1)
