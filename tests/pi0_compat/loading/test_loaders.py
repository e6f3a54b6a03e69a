"""Loaders: what they refuse and with which messages, what they count, and what they leave alone."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fixtures.golden_cases import full_size
from fixtures.writers import openpi, paligemma_npz
from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.orbax.save import save_params
from pi0_compat.loading.loaders import CheckpointWeightLoader, NoOpWeightLoader, PaliGemmaWeightLoader
from pi0_compat.loading.match import expected_leaves
from pi0_compat.loading.report import LoadReport, Status
from pi0_compat.model.config import Pi0Config
from pi0_compat.params import leaves_of
from pi0_compat.paths import in_paligemma, is_adapter
from suite.writing.asserts import assert_same_bits
from suite.writing.cases import digests
from tests.pi0_compat.tiny_models import BASE, BASE_SPEC, LINEAR, LORA, PI05, Q_EINSUM, Params, base_params, lora_params

WIDE = "action_in_proj/kernel"


def load(params: Params, model: Pi0Config, tmp_path: Path, **options: Any) -> tuple[Params, LoadReport]:
    """Load a model from a checkpoint with these parameters, as openpi writes it."""
    openpi.write(params, tmp_path / "params")
    return CheckpointWeightLoader(tmp_path / "params").load(model, **options)


def refusal(params: Params, model: Pi0Config, tmp_path: Path, **options: Any) -> str:
    """Return the message that refuses the checkpoint."""
    with pytest.raises(LoadError) as caught:
        load(params, model, tmp_path, **options)
    assert str(caught.value).startswith(f"{tmp_path / 'params'}: ")
    return str(caught.value)


def with_values(dtype: Any, *values: float, path: str = WIDE) -> Params:
    """Return the base parameters, one of them with these values in another dtype."""
    array = base_params()[path].astype(dtype)
    array.flat[: len(values)] = values
    return base_params() | {path: array}


def with_alpha(alpha: float) -> Pi0Config:
    """Return ``LORA`` with another alpha on PaliGemma's attention."""
    data = LORA.to_json()
    data["paligemma"]["lora"]["attn"]["alpha"] = alpha
    return Pi0Config.from_json(data)


def test_a_whole_checkpoint_is_loaded(tmp_path: Path) -> None:
    """Every parameter is the checkpoint's, as a host array, and the report has no more than that."""
    save_params(lora_params(), tmp_path / "params", config=LORA)
    params, report = CheckpointWeightLoader(tmp_path / "params").load(LORA)
    assert_same_bits(params, lora_params())
    assert report.paths(Status.LOADED) == sorted(params)
    assert len(str(report).splitlines()) == 1


def test_an_unrecorded_alpha_is_noted(tmp_path: Path) -> None:
    """The alpha of openpi's adapters is unknown; the report says that the config's was used."""
    assert "does not record the alpha" in str(load(lora_params(), LORA, tmp_path)[1])


def test_fresh_adapters_are_reported(tmp_path: Path) -> None:
    """From a base, adapters are initialized, and the report lists each with shape and dtype."""
    params, report = load(base_params(), LORA, tmp_path)
    assert report.paths(Status.INITIALIZED) == [path for path in sorted(params) if is_adapter(path)]
    assert f"  {Q_EINSUM}/lora_a: initialized float32[3, 6, 56, 4]" in str(report).splitlines()


def test_frozen_parameters_have_their_dtype(tmp_path: Path) -> None:
    """With a frozen dtype, exactly the frozen parameters are cast to it, and trained ones stay float32."""
    params, report = load(lora_params(), LORA, tmp_path, frozen_dtype="bfloat16")
    expected = {
        path: array.astype(ml_dtypes.bfloat16) if LORA.is_frozen(path) else array
        for path, array in lora_params().items()
    }
    assert_same_bits(params, expected)
    assert report.paths(Status.CAST) == [path for path in sorted(expected) if LORA.is_frozen(path)]


def test_a_frozen_dtype_changes_nothing_without_lora(tmp_path: Path) -> None:
    """A model that trains everything keeps everything in float32."""
    params, _ = load(base_params(), BASE, tmp_path, frozen_dtype="bfloat16")
    assert_same_bits(params, base_params())


def test_unused_parameters_are_dropped_by_name(tmp_path: Path) -> None:
    """Parameters that the model lacks are not loaded, and the report names them."""
    params, report = load(base_params() | {"opt/step": np.ones(2, np.float32)}, BASE, tmp_path)
    assert "opt/step" not in params
    assert "  opt/step: dropped float32[2]" in str(report).splitlines()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(tmp_path: Path, value: float) -> None:
    """NaN and infinity are loaded unchanged, and the report counts them."""
    params, report = load(with_values(np.float32, value, value, value), BASE, tmp_path)
    (entry,) = [entry for entry in report.entries if entry.nonfinite]
    assert (entry.path, entry.nonfinite) == (WIDE, 3)
    assert not np.isfinite(params[WIDE].flat[:3]).any()


def test_values_that_are_not_finite_are_counted_through_a_cast(tmp_path: Path) -> None:
    """NaN in float16 stays NaN in float32 and is no overflow."""
    _, report = load(with_values(np.float16, np.nan, np.inf), BASE, tmp_path)
    assert f"{WIDE}: cast float16[9, 36] -> float32[9, 36], 2 values are not finite" in str(report)


def test_overflow_in_a_cast_is_refused(tmp_path: Path) -> None:
    """A finite value that the model's dtype cannot hold is refused with path and dtypes."""
    text = refusal(with_values(np.float64, 1e39, np.inf), BASE, tmp_path)
    assert "values too large for the model's dtype" in text
    assert f"~ {WIDE}: finite float64[9, 36] overflows in float32[9, 36]" in text


def test_overflow_in_the_frozen_dtype_is_refused(tmp_path: Path) -> None:
    """float32 weights beyond float16 cannot be frozen in float16."""
    params = lora_params()
    params[LINEAR].flat[0] = 1e6
    text = refusal(params, LORA, tmp_path, frozen_dtype="float16")
    assert f"~ {LINEAR}: finite float32[3, 88, 56] overflows in float16[3, 88, 56]" in text


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "bool"])
def test_codes_are_refused(tmp_path: Path, dtype: str) -> None:
    """Integers and booleans are not weights, and no cast turns them into weights."""
    text = refusal(with_values(dtype), BASE, tmp_path)
    assert "quantized or integer weights need their own loader" in text
    assert f"~ {WIDE}: expected floats, found {dtype}[9, 36]" in text


def test_eight_bit_floats_are_refused(tmp_path: Path) -> None:
    """Weights in float8 are quantized: without their scales they are meaningless."""
    assert WIDE in refusal(with_values(ml_dtypes.float8_e4m3fn), BASE, tmp_path)


def test_a_missing_weight_is_refused(tmp_path: Path) -> None:
    """A base weight that is missing is refused by name, shape and dtype."""
    params = {path: array for path, array in base_params().items() if path != LINEAR}
    assert f"- {LINEAR}: expected float32[3, 88, 56], found nothing" in refusal(params, LORA, tmp_path)


def test_all_errors_are_listed_at_once(tmp_path: Path) -> None:
    """Missing weights, other shapes and unused adapters are in one error."""
    some = {path: lora_params()[path] for path in (f"{Q_EINSUM}/lora_a", f"{Q_EINSUM}/lora_b")}
    params = base_params() | some | {WIDE: np.ones((8, 36), np.float32)}
    del params[LINEAR]
    text = refusal(params, BASE, tmp_path)
    assert f"- {LINEAR}: " in text
    assert f"+ {Q_EINSUM}/lora_a: found" in text
    assert f"~ {WIDE}: expected float32[9, 36], found float32[8, 36]" in text


def test_unused_adapters_are_refused_with_a_suggestion(tmp_path: Path) -> None:
    """Adapters without a place in the model are refused: load with their config, or fold."""
    text = refusal(lora_params(), BASE, tmp_path)
    assert "a LoRA checkpoint for a config without these adapters: 20 matrices would be lost" in text
    assert "Use the LoRA config it was trained with, or fold them" in text


@pytest.mark.parametrize("half", ["a", "b"])
def test_half_an_adapter_is_refused(tmp_path: Path, half: str) -> None:
    """An adapter without one of its matrices is refused, and the missing one is named."""
    params = lora_params()
    del params[f"{LINEAR}_lora_{half}"]
    text = refusal(params, LORA, tmp_path)
    assert "half an adapter is missing" in text
    assert f"  - {LINEAR}_lora_{half}" in text


def test_another_rank_is_refused(tmp_path: Path) -> None:
    """Adapters of another rank, in a checkpoint that records none, are refused with both shapes."""
    data = LORA.to_json()
    data["paligemma"]["lora"]["attn"]["rank"] = 5
    text = refusal(lora_params(), Pi0Config.from_json(data), tmp_path)
    assert f"~ {Q_EINSUM}/lora_a: expected float32[3, 6, 56, 5], found float32[3, 6, 56, 4]" in text


def test_another_alpha_than_recorded_is_refused(tmp_path: Path) -> None:
    """A config whose alpha differs from the recorded one is refused with both."""
    save_params(lora_params(), tmp_path / "params", config=LORA)
    with pytest.raises(LoadError, match=r"trained with .*10\.0.*, the config has .*11\.0"):
        CheckpointWeightLoader(tmp_path / "params").load(with_alpha(11.0))


def test_the_recorded_alpha_is_used(tmp_path: Path) -> None:
    """A checkpoint that records rank and alpha loads into the config that has them."""
    save_params(lora_params(), tmp_path / "params", config=LORA)
    params, _ = CheckpointWeightLoader(tmp_path / "params").load(LORA)
    assert_same_bits(params, lora_params())


def test_a_base_that_records_no_lora_loads_into_any(tmp_path: Path) -> None:
    """A checkpoint of a model without LoRA is a base for every LoRA config."""
    save_params(base_params(), tmp_path / "params", config=BASE)
    _, report = CheckpointWeightLoader(tmp_path / "params").load(LORA)
    assert report.count(Status.INITIALIZED) == 20


def test_another_family_is_named(tmp_path: Path) -> None:
    """A checkpoint of pi0 for a pi05 config is refused with both families."""
    text = refusal(base_params(), PI05, tmp_path)
    assert "these are parameters of pi0, the config is pi05: choose the config of that family" in text


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    """If no parameter matches, the error shows what the checkpoint has instead."""
    text = refusal({f"net/w{n}": np.ones(2, np.float32) for n in range(4)}, BASE, tmp_path)
    assert text.endswith("not one parameter matches the model; found 4 others, for example net/w0, net/w1, net/w2")


def test_a_path_without_checkpoint_is_a_checkpoint_error(tmp_path: Path) -> None:
    """The path's error reaches the caller of the loader."""
    with pytest.raises(CheckpointError, match=f"^{tmp_path}/nowhere: no such folder"):
        CheckpointWeightLoader(tmp_path / "nowhere").load(BASE)


def test_a_path_may_be_text(tmp_path: Path) -> None:
    """A str is accepted like a Path."""
    openpi.write(base_params(), tmp_path / "params")
    assert_same_bits(CheckpointWeightLoader(str(tmp_path / "params")).load(BASE)[0], base_params())


@pytest.mark.parametrize(("stored", "served"), [("float16", "float16"), ("float64", "float32")])
def test_serving_keeps_the_stored_dtype(tmp_path: Path, stored: str, served: str) -> None:
    """For serving nothing is widened, and wider values are cast to the model's dtype."""
    openpi.write({path: array.astype(stored) for path, array in base_params().items()}, tmp_path / "params")
    params, report = CheckpointWeightLoader(tmp_path / "params").load_for_inference(BASE)
    assert_same_bits(params, {path: array.astype(stored).astype(served) for path, array in base_params().items()})
    assert report.count(Status.CAST if stored != served else Status.LOADED) == len(params)


def test_serving_adds_no_adapters(tmp_path: Path) -> None:
    """For serving, a base is refused for a LoRA config; the error says how to add adapters."""
    openpi.write(base_params(), tmp_path / "params")
    with pytest.raises(LoadError, match="initialize_lora_parameters"):
        CheckpointWeightLoader(tmp_path / "params").load_for_inference(LORA)


def test_another_byte_order_is_cast(tmp_path: Path) -> None:
    """Big-endian floats are loaded, and reported as cast."""
    params = paligemma_npz.contents(BASE_SPEC)
    paligemma_npz.write({path: array.astype(">f4") for path, array in params.items()}, tmp_path / "pt_224.npz")
    loaded, report = PaliGemmaWeightLoader(tmp_path / "pt_224.npz").load(BASE)
    assert_same_bits({path: loaded[path] for path in params}, params)
    assert report.count(Status.CAST) == len(params)


def test_files_are_left_alone(tmp_path: Path) -> None:
    """Loading with a cast changes no byte of the checkpoint."""
    openpi.write(lora_params(), tmp_path / "params")
    before = digests(tmp_path)
    CheckpointWeightLoader(tmp_path / "params").load(LORA, frozen_dtype="bfloat16")
    assert digests(tmp_path) == before


@pytest.fixture(scope="module")
def from_paligemma(tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, LoadReport, Params]:
    """Load float16 PaliGemma into a LoRA model frozen in bfloat16; return params, report, and the file's content."""
    path = tmp_path_factory.mktemp("npz") / "pt_224.npz"
    written = paligemma_npz.build(BASE_SPEC, path, dtype="float16")
    return (*PaliGemmaWeightLoader(path).load(LORA, frozen_dtype="bfloat16"), written)


def test_paligemma_fills_its_part(from_paligemma: tuple) -> None:
    """PaliGemma's parameters are the file's, cast to the model's dtypes."""
    params, _, written = from_paligemma
    expected = {path: array.astype(expected_leaves(LORA, "bfloat16")[path].dtype) for path, array in written.items()}
    assert_same_bits({path: params[path] for path in written}, expected)


def test_paligemma_report_counts_every_leaf(from_paligemma: tuple) -> None:
    """Parameters of PaliGemma are cast, others are initialized, and nothing else is reported."""
    params, report, written = from_paligemma
    counts = Counter(entry.status for entry in report.entries)
    assert counts == {Status.CAST: len(written), Status.INITIALIZED: len(params) - len(written)}


def test_paligemma_dtypes_are_the_train_states(from_paligemma: tuple) -> None:
    """Fresh parameters also have the dtype of the train state."""
    params, _, _ = from_paligemma
    assert leaves_of(params) == expected_leaves(LORA, "bfloat16")


def refused_npz(params: Params, model: Pi0Config, tmp_path: Path) -> str:
    path = tmp_path / "pt_224.npz"
    paligemma_npz.write(params, path)
    with pytest.raises(LoadError) as caught:
        PaliGemmaWeightLoader(path).load(model)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_paligemma_must_be_complete(tmp_path: Path) -> None:
    """A PaliGemma file without one of PaliGemma's weights is refused by name."""
    params = {p: x for p, x in paligemma_npz.contents(BASE_SPEC).items() if p != LINEAR}
    assert f"- {LINEAR}: expected float32[3, 88, 56], found nothing" in refused_npz(params, BASE, tmp_path)


def test_paligemma_of_another_size_is_refused(tmp_path: Path) -> None:
    """Another resolution has other position embeddings, and the error has both shapes."""
    path = "PaliGemma/img/pos_embedding"
    params = paligemma_npz.contents(BASE_SPEC)
    text = refused_npz(params | {path: params[path][:, :3]}, BASE, tmp_path)
    assert f"~ {path}: expected float32[1, 4, 40], found float32[1, 3, 40]" in text


def test_paligemma_overflow_is_refused(tmp_path: Path) -> None:
    """A float64 beyond float32 in a PaliGemma file is refused by name."""
    params = paligemma_npz.contents(BASE_SPEC)
    wide = params[LINEAR].astype(np.float64)
    wide.flat[0] = 1e39
    with np.errstate(over="ignore"):
        text = refused_npz(params | {LINEAR: wide}, BASE, tmp_path)
    assert f"~ {LINEAR}: finite float64[3, 88, 56] overflows" in text


def test_paligemma_overflow_is_an_error_and_no_warning(tmp_path: Path) -> None:
    """A user who turns warnings into errors gets the same ``LoadError``."""
    params = paligemma_npz.contents(BASE_SPEC)
    wide = params[LINEAR].astype(np.float64)
    wide.flat[0] = 1e39
    refused_npz(params | {LINEAR: wide}, BASE, tmp_path)


def test_paligemma_has_the_parameters_that_openpi_uses() -> None:
    """PaliGemma has openpi's real parameters outside of the action expert and the projections."""
    models = full_size()
    base = models["pi0_libero"].parameters.keys()
    expert_1 = base - models["pi0 with lora on the action expert only"].trainable
    projections = {path for path in base if path.startswith(("action_", "state_proj"))}
    every = {path for model in models.values() for path in model.parameters}
    pi05_llm = models["pi05 with lora on both"]
    expert_1 |= {p for p in pi05_llm.parameters.keys() - pi05_llm.trainable if p not in base}
    paligemma = {path for path in every if in_paligemma(path)}
    assert paligemma == base - expert_1 - projections


def test_no_loader_warns() -> None:
    """Training from scratch gives a warning, and every parameter is fresh."""
    with pytest.warns(UserWarning, match="every parameter is freshly initialized"):
        params, report = NoOpWeightLoader().load(LORA, seed=0, frozen_dtype="bfloat16")
    assert leaves_of(params) == expected_leaves(LORA, "bfloat16")
    assert report.count(Status.INITIALIZED) == len(params) == len(report.entries)


@pytest.mark.parametrize("loader", [CheckpointWeightLoader("a"), PaliGemmaWeightLoader(), NoOpWeightLoader()])
def test_loaders_are_data(loader: Any) -> None:
    """Loaders are frozen and hashable, since they are part of configs."""
    assert dataclasses.replace(loader) == loader
    assert hash(dataclasses.replace(loader)) == hash(loader)
