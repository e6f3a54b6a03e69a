"""Aggregate the quantiles of two episodes with lerobot, and compare them with those of all frames."""

import numpy as np
from lerobot.datasets.compute_stats import aggregate_feature_stats, get_feature_stats

random = np.random.default_rng(0)
episodes = [random.normal(mean, 1, (5000, 1)) for mean in (0, 10)]
found = aggregate_feature_stats([get_feature_stats(frames, axis=0, keepdims=False) for frames in episodes])
true = np.quantile(np.concatenate(episodes), 0.99)
print("right" if abs(float(found["q99"][0]) - true) < 1 else "wrong")
