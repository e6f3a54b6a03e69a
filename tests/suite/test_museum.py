"""The museum is in order: every fault can be shown and names existing contracts, and every contract is named.

Running each fault against the contracts that it names takes minutes and is the second half of ``nox -s tests``:
``python -m suite.mutation --named``.
"""

import re

import pytest

from suite.faults import all_faults
from suite.faults.fault import Fault
from suite.mutation import counts
from suite.mutation.run import contract_cases
from suite.subjects.patches.patched import patched_sources

FAULTS = pytest.mark.parametrize("fault", all_faults().values(), ids=list(all_faults()))
BUG = re.compile(r"[A-HP]\d{1,2}")


@pytest.fixture(scope="session")
def contracts() -> set[str]:
    return set(contract_cases())


@FAULTS
def test_its_patches_fit_the_reference_and_are_python(fault: Fault) -> None:
    assert fault.patches
    for file, source in patched_sources(fault.patches).items():
        compile(source, str(file), "exec")


@FAULTS
def test_it_has_a_story_and_evidence(fault: Fault) -> None:
    assert re.fullmatch(r"[a-z0-9_]+", fault.id)
    assert fault.story.endswith(".")
    assert "\n" not in fault.story
    assert fault.evidence
    assert all(BUG.fullmatch(bug) for bug in fault.bugs)


@FAULTS
def test_it_names_contracts_that_exist(fault: Fault, contracts: set[str]) -> None:
    assert fault.caught_by
    assert set(fault.caught_by) <= contracts


def test_every_contract_is_named_by_a_fault(contracts: set[str]) -> None:
    assert contracts - {contract for fault in all_faults().values() for contract in fault.caught_by} == set()


def test_two_faults_are_not_the_same_patch() -> None:
    patches = [fault.patches for fault in all_faults().values()]
    assert len(set(patches)) == len(patches)


def test_the_counts_in_the_project_s_readme_are_today_s() -> None:
    """``python -m suite.mutation.counts`` writes them."""
    text = counts.README.read_text(encoding="utf-8")
    assert counts.replaced(text, counts.sentence()) == text
