"""Faults in how LoRA adapters are initialized and what they compute."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_LORA = f"{_OPENPI}/blob/15a9616/src/openpi/models/lora.py"

FAULTS = (
    Fault(
        id="fresh_lora_b_is_random",
        bugs=("A1",),
        story="A fresh lora_b is drawn like lora_a, so a LoRA model does not start as its base model.",
        evidence=f"{_LORA}#L20",
        patches=(Patch("model/initialization.py", 'r".+[/_]lora_b": _all(0)', 'r".+[/_]lora_b": _normal(0.01)'),),
        caught_by=(
            "lora_init.starts_with_the_loss_of_its_base",
            "lora_init.starts_with_the_actions_of_its_base",
            "lora_init.lora_b_is_zero",
            "lora_init.load_adds_a_lora_b_of_zeros",
        ),
    ),
    Fault(
        id="fresh_lora_a_is_zero_too",
        bugs=("A2",),
        story="Both matrices start at zero, so the gradient of each is zero forever.",
        evidence=f"{_LORA}#L20",
        patches=(Patch("model/initialization.py", 'r".+[/_]lora_a": _normal(0.01)', 'r".+[/_]lora_a": _all(0)'),),
        caught_by=(
            "lora_init.can_learn",
            "lora_init.lora_a_is_not_zero",
            "lora_init.another_seed_draws_another_lora_a",
        ),
    ),
    Fault(
        id="fresh_lora_a_is_twice_as_wide",
        story="A fresh lora_a has twice openpi's standard deviation.",
        evidence="mutation: another initializer than the configs'",
        patches=(Patch("model/initialization.py", 'lora_a": _normal(0.01)', 'lora_a": _normal(0.02)'),),
        caught_by=("lora_init.lora_a_is_normal",),
    ),
    Fault(
        id="adapters_draw_from_the_stream_of_the_base",
        bugs=("A13",),
        story="Adapters use the base's random stream, so enabling LoRA changes the fresh base weights.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/models/gemma.py#L365",
        patches=(
            Patch(
                "model/initialization.py",
                "for path, array in arrays.items() for job in _jobs(seed, path, array)]",
                "for path, array in arrays.items() for job in _jobs(seed + len(arrays), path, array)]",
            ),
        ),
        caught_by=("lora_init.base_does_not_depend_on_adapters",),
    ),
    Fault(
        id="load_ignores_its_seed",
        story="A load draws fresh adapters from a fixed seed, so every run has the same.",
        evidence="mutation: a constant in place of an argument",
        patches=(
            Patch(
                "loading/match.py",
                "fresh = model.init_params(seed, only=",
                "fresh = model.init_params(0, only=",
            ),
        ),
        caught_by=("lora_init.load_adds_another_lora_a_for_another_seed",),
    ),
    Fault(
        id="fresh_parameters_of_the_clock",
        bugs=("A15",),
        story="Fresh parameters are drawn from the given seed and the time of day.",
        evidence="mutation: a generator that is seeded twice",
        patches=(
            Patch(
                "model/initialization.py",
                "for job in _jobs(seed, path, array)]",
                'for job in _jobs(seed + __import__("time").time_ns() % 2**31, path, array)]',
            ),
        ),
        caught_by=(
            "lora_init.depends_on_the_seed_alone",
            "lora_init.load_adds_the_same_adapters_for_the_same_seed",
        ),
    ),
    Fault(
        id="largest_rank_is_refused",
        story="A rank must be below the smaller dimension of its weight, so the largest possible one is refused.",
        evidence="mutation: >= in place of >",
        patches=(Patch("model/specs.py", "if lora and lora.rank > limit:", "if lora and lora.rank >= limit:"),),
        caught_by=("lora_init.largest_rank_is_accepted",),
    ),
    Fault(
        id="any_rank_is_taken",
        bugs=("A11",),
        story="A rank of zero or less makes a model that crashes or divides by zero only when called.",
        evidence=f"{_LORA}#L16",
        patches=(Patch("model/specs.py", '        self._require_positive("rank")\n', ""),),
        caught_by=("lora_init.impossible_rank_is_refused",),
    ),
    Fault(
        id="rank_above_the_weight_is_taken",
        bugs=("A11",),
        story="A rank above a weight's smaller dimension is accepted: more parameters than full fine-tuning.",
        evidence=f"{_LORA}#L16",
        patches=(Patch("model/specs.py", "if lora and lora.rank > limit:", "if False:"),),
        caught_by=("lora_init.impossible_rank_is_refused",),
    ),
    Fault(
        id="alpha_ignored_in_feed_forward",
        bugs=("A3",),
        story="Feed-forward adapters are never scaled by alpha / rank, in the model and in a fold.",
        evidence=f"{_LORA}#L144",
        patches=(
            Patch(
                "model/lora.py",
                ".astype(x.dtype)) * lora.scale",
                '.astype(x.dtype)) * (lora.scale if site.group == "attn" else 1.0)',
            ),
            Patch(
                "model/sites.py",
                "np.float64) * lora.scale",
                'np.float64) * (lora.scale if site.group == "attn" else 1.0)',
            ),
        ),
        caught_by=("lora_math.scale_is_alpha_over_rank_at_each_site",),
    ),
    Fault(
        id="rslora_ignored_in_feed_forward",
        bugs=("A4",),
        story="rslora has no effect on feed-forward adapters, which are always scaled by alpha / rank.",
        evidence=f"{_LORA}#L144",
        patches=(
            Patch(
                "model/lora.py",
                ".astype(x.dtype)) * lora.scale",
                '.astype(x.dtype)) * (lora.scale if site.group == "attn" else lora.alpha / lora.rank)',
            ),
            Patch(
                "model/sites.py",
                "np.float64) * lora.scale",
                'np.float64) * (lora.scale if site.group == "attn" else lora.alpha / lora.rank)',
            ),
        ),
        caught_by=("lora_math.rslora_divides_by_the_root_of_the_rank",),
    ),
    Fault(
        id="rslora_is_ignored",
        story="Rank stabilization is an option that nothing reads.",
        evidence="mutation of arXiv:2312.03732: alpha / rank with and without it",
        patches=(Patch("model/specs.py", "(math.sqrt(self.rank) if self.rslora else self.rank)", "self.rank"),),
        caught_by=("lora_math.rslora_divides_by_the_root_of_the_rank", "golden.loss"),
    ),
    Fault(
        id="scale_is_alpha",
        story="Adapters are multiplied by alpha instead of alpha / rank.",
        evidence="mutation: the scale of arXiv:2106.09685 without its denominator",
        patches=(
            Patch(
                "model/specs.py",
                "return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)",
                "return self.alpha",
            ),
        ),
        caught_by=("lora_math.scale_is_alpha_over_rank_at_each_site", "golden.loss"),
    ),
    Fault(
        id="scale_multiplies_the_base_too",
        story="The scale is applied to the sum of base and adapter.",
        evidence="mutation: a pair of parentheses",
        patches=(
            Patch(
                "model/lora.py",
                "return y + jnp.einsum(site.up, low, b.astype(x.dtype)) * lora.scale",
                "return (y + jnp.einsum(site.up, low, b.astype(x.dtype))) * lora.scale",
            ),
        ),
        caught_by=(
            "lora_math.zero_lora_b_is_the_base_model",
            "lora_init.starts_with_the_loss_of_its_base",
            "lora_math.fold_equals_forward",
        ),
    ),
    Fault(
        id="attn_vec_adapter_is_per_head",
        bugs=("A5",),
        story="attn_vec_einsum's adapter works per head, as in the textbook but not in openpi's checkpoints.",
        evidence=f"{_LORA}#L67",
        patches=(
            Patch(
                "model/sites.py",
                '"BTNH,NHR->BTR", "BTR,NRD->BTD", "...NHR,...MRD->...NHD"',
                '"BTNH,NHR->BTNR", "BTNR,NRD->BTD", "...NHR,...NRD->...NHD"',
            ),
        ),
        caught_by=("lora_math.attn_vec_sees_the_sum_of_lora_b_over_heads", "golden.loss"),
    ),
    Fault(
        id="adapter_after_the_gate_is_not_run",
        story="The adapter of the feed-forward's output is there, is trained and saved, and has no effect.",
        evidence="mutation: one of two calls without its adapter",
        patches=(
            Patch(
                "model/lora.py",
                "        if self.lora is None:\n            return apply(SITES[name], x, w)",
                '        if self.lora is None or name == "linear":\n            return apply(SITES[name], x, w)',
            ),
        ),
        caught_by=("forward.every_adapter_matters", "golden.loss"),
    ),
    Fault(
        id="no_adapters_on_the_feed_forward",
        bugs=("A8",),
        story="A refactoring gives the feed-forward layer its own class, without adapters.",
        evidence=f"{_OPENPI}/commit/074cfc5",
        patches=(
            Patch("model/shapes.py", "(spec.depth, *shape), spec.lora_ffn)", "(spec.depth, *shape), None)"),
            Patch(
                "model/gemma.py",
                "FeedForward(spec.width, spec.mlp_dim, lora=spec.lora_ffn",
                "FeedForward(spec.width, spec.mlp_dim, lora=None",
            ),
        ),
        caught_by=(
            "structure.equals_openpi_at_real_size",
            "structure.lora_adds_adapters_and_changes_nothing",
            "structure.has_the_configured_rank_at_every_site",
        ),
    ),
    Fault(
        id="feed_forward_has_the_rank_of_attention",
        bugs=("A9",),
        story="The feed-forward rank is not passed on, so its adapters have attention's.",
        evidence=f"{_OPENPI}/pull/274",
        patches=(
            Patch("model/shapes.py", "(spec.depth, *shape), spec.lora_ffn)", "(spec.depth, *shape), spec.lora_attn)"),
            Patch(
                "model/gemma.py",
                "FeedForward(spec.width, spec.mlp_dim, lora=spec.lora_ffn",
                "FeedForward(spec.width, spec.mlp_dim, lora=spec.lora_attn",
            ),
        ),
        caught_by=("structure.has_the_configured_rank_at_every_site",),
    ),
    Fault(
        id="action_expert_has_the_rank_of_paligemma",
        story="The attention adapters of both experts have the first expert's rank.",
        evidence="mutation: the index of an expert",
        patches=(
            Patch(
                "model/shapes.py",
                "        yield from _attention(i, spec)\n",
                "        yield from _attention(i, spec, experts[0])\n",
            ),
            Patch(
                "model/shapes.py",
                "def _attention(expert: int, spec: GemmaSpec) ->",
                "def _attention(expert: int, spec: GemmaSpec, first: GemmaSpec) ->",
            ),
            Patch("model/shapes.py", "(spec.depth, *shape), spec.lora_attn)", "(spec.depth, *shape), first.lora_attn)"),
            Patch(
                "model/gemma.py",
                "Einsum(name, shape, lora=spec.lora_attn",
                "Einsum(name, shape, lora=self.experts[0].lora_attn",
            ),
        ),
        caught_by=("structure.has_the_configured_rank_at_every_site",),
    ),
    Fault(
        id="adapters_replace_their_weight",
        story="An adapted projection has no weight of its own.",
        evidence="mutation: adapters in place of a weight, not in addition to it",
        patches=(
            Patch(
                "model/shapes.py",
                "    yield weight, shape\n",
                '    if not lora or prefix.endswith("_"):\n        yield weight, shape\n',
            ),
            Patch(
                "model/lora.py",
                "        self.w = nnx.Param(jnp.zeros(shape))\n",
                "        self.w = None if lora else nnx.Param(jnp.zeros(shape))\n",
            ),
        ),
        caught_by=("structure.lora_adds_adapters_and_changes_nothing",),
    ),
)
