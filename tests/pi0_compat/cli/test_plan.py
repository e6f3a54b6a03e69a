"""`pi0-compat plan`: what a training needs, as text and as JSON, and whether it fits a device."""

import re
from collections.abc import Callable

import pytest

from pi0_compat.cli import NO, REFUSED, YES
from pi0_compat.planning import child, devices, plan, remedies
from pi0_compat.planning.question import Question
from pi0_compat.storage.download import CACHE_VARIABLE

TINY = "pi0_libero_low_mem_finetune_tiny"
PROGRAM = {"arguments": 1_000_000, "outputs": 900_000, "aliased": 899_000}


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have answers without a compiler: a gigabyte, and ten more for each sample."""

    def ask(question: Question) -> dict[str, object]:
        program = PROGRAM | {"temporary": (1 + 10 * question.batch) * 10**9 // (1 + question.freeze_vision)}
        return child.answer(question, compiled=False) | {"program": program}

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
    for module in (plan, remedies):
        monkeypatch.setattr(module, "ask", ask)
        monkeypatch.setattr(module, "ask_all", lambda questions: [ask(each) for each in questions if each.devices == 1])


def test_what_it_prints(pi0_compat: Callable) -> None:
    """Text says that nothing is measured, what stays, what is held, and which devices hold it."""
    result = pi0_compat("plan", "--config", TINY, "--batch", 3)
    assert result.status == YES
    assert result.out.startswith(f"{TINY}: training, batch 3\n")
    assert "none is measured" in result.out
    assert "  batch    3:   31.0 GB" in result.out
    fits = {
        line[2:30].strip(): "does not fit" not in line for line in result.out.splitlines() if "largest batch" in line
    }
    assert (fits["NVIDIA GeForce RTX 4090"], fits["NVIDIA A100-SXM4-40GB"]) == (False, True)


def test_json_has_the_same(pi0_compat: Callable) -> None:
    document = pi0_compat("plan", "--config", TINY, "--batch", 3, "--json").document
    assert document["computed"] is True
    assert [need["batch"] for need in document["needs"]] == [1, 3]
    [largest] = [each["largest_batch"] for each in document["devices"] if each["device"]["name"] == "NVIDIA H200"]
    assert largest == int((devices.device("H200").usable_bytes - 1.001e9) / 1e10)


def test_a_device_that_is_too_small(pi0_compat: Callable) -> None:
    """The status says no, and what would make it fit is compiled until it does."""
    result = pi0_compat("plan", "--config", TINY, "--batch", 3, "--device", "RTX 4090", "--json")
    assert result.status == NO
    [device] = result.document["devices"]
    assert (device["fits"], device["largest_batch"]) == (False, 2)
    [remedy] = result.document["remedies"]
    assert (remedy["name"], remedy["peak"] < 16e9, remedy["saved"] > 15e9) == ("frozen vision encoder", True, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name a training config with --config"),
        (["--config", "pi0_libro"], "closest names are .*pi0_libero"),
        (["--config", TINY, "--device", "abacus"], "no device 'abacus'"),
        (["--config", TINY, "--batch", "0"], "batch is 0"),
    ],
)
def test_wrong_options(pi0_compat: Callable, arguments: list[str], message: str) -> None:
    result = pi0_compat("plan", *arguments)
    assert result.status == REFUSED
    assert re.search(message, result.err)
