"""PI0: of two token tables that differ, one is used, and the loading report says nothing."""

import json
import sys
from pathlib import Path
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import GenerationConfig, PI0Config, PI0ForConditionalGeneration

def load(model, path, seed):
    torch.manual_seed(seed)
    loaded, info = PI0ForConditionalGeneration.from_pretrained(
        path, config=PI0Config(**model), generation_config=GenerationConfig(),
        dtype=torch.float32, output_loading_info=True)
    print("loading report:", {kind: sorted(map(str, names)) for kind, names in info.items() if names})
    unread = "model.dit.embed_tokens.weight"  # of a class that has a token table, and never reads it
    return {name: x.numpy() for name, x in loaded.state_dict().items() if name != unread}

def stored(path):  # under the model's names
    both, renamed = "paligemma_with_expert.", {}
    starts = {f"{both}gemma_expert.lm_head": None, f"{both}gemma_expert.model": "model.dit",
              f"{both}paligemma.model.vision_tower.vision_model": "model.vlm.vision_tower",
              f"{both}paligemma.model": "model.vlm", f"{both}paligemma.lm_head": "lm_head",
              "action_out_proj": "action_out_proj", "": "embed_action_time."}
    for name, x in load_file(path / "model.safetensors").items():
        start = next(start for start in starts if name.startswith(start))
        if starts[start] is not None:
            renamed[starts[start] + name.removeprefix(start)] = x.numpy()
    return renamed

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
    load_0 = load(model=MODEL, path=HERE / "input/pi0_base_pytorch", seed=0)
except Exception as error:
    sys.exit(print(f"right: refused: {error}"))
print("wrong: load raises no error", "right: an error that names the cause", sep="\n")
describe(stored(path=HERE / "input/pi0_base_pytorch"), load_0, load(model=MODEL, path=HERE / "input/pi0_base_pytorch", seed=1))
sys.exit(1)
