"""save_pretrained returns without saving anything, and without an error, where the path is a file."""

import sys
import tempfile
from pathlib import Path

from transformers import GemmaConfig, GemmaForCausalLM

sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 64}
model = GemmaForCausalLM(GemmaConfig(num_attention_heads=2, num_key_value_heads=1, head_dim=8, **sizes))
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model"
    path.write_text("something else")
    try:
        returned = model.save_pretrained(path)
    except Exception as error:
        sys.exit(print(f"right: refused: {error}"))
    print(f"wrong: save_pretrained returned {returned} and raised no error")
    print("right: an error that names the path")
    print(f"wrong: {sum(x.numel() for x in model.parameters())} numbers of the model are saved nowhere;", end=" ")
    print(f"in the folder: {sorted(each.name for each in path.parent.iterdir())}, which says {path.read_text()!r}")
sys.exit(1)
