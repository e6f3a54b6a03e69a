"""Load a DoRA adapter whose settings do not say so with PEFT."""

import copy
import json
import sys
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model

base = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False))
get_peft_model(copy.deepcopy(base), LoraConfig(r=2, target_modules=["0"], use_dora=True)).save_pretrained(sys.argv[1])
settings = Path(sys.argv[1]) / "adapter_config.json"
settings.write_text(json.dumps({**json.loads(settings.read_text()), "use_dora": False}))
is_refused = False
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    try:
        PeftModel.from_pretrained(copy.deepcopy(base), sys.argv[1])
    except (KeyError, RuntimeError, ValueError):
        is_refused = True
print("right" if is_refused or any("magnitude" in str(warning.message) for warning in seen) else "wrong")
