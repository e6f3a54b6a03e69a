"""Normalize a state of whole numbers with lerobot."""

import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.processor import NormalizerProcessorStep, TransitionKey

step = NormalizerProcessorStep(
    features={"observation.state": PolicyFeature(type=FeatureType.STATE, shape=(1,))},
    norm_map={FeatureType.STATE: NormalizationMode.MEAN_STD},
    stats={"observation.state": {"mean": [0.0], "std": [0.5]}},
)
given = {TransitionKey.OBSERVATION: {"observation.state": torch.tensor([[1]])}}
found = float(step(given)[TransitionKey.OBSERVATION]["observation.state"][0, 0])
print("right" if abs(found - 2) < 0.01 else "wrong")
