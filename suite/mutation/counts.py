"""The sentence in the project's README that counts contracts and faults.

``python -m suite.mutation.counts`` updates it.
"""

import re
from pathlib import Path

from fixtures.damage.corruptions import CORRUPTIONS
from suite.faults import all_faults
from suite.mutation.run import contract_cases

README = Path(__file__).parents[2] / "README.md"
_BETWEEN = re.compile(r"(?<=<!-- counts -->\n).*?(?=\n<!-- /counts -->)", re.DOTALL)


def sentence() -> str:
    """Return the counts as a sentence."""
    cases, faults = contract_cases(), all_faults().values()
    historical = [fault for fault in faults if fault.historical]
    bugs = {bug for fault in historical for bug in fault.bugs}
    return (
        f"Today: **{len(cases)} contracts** with {sum(cases.values())} cases catch **{len(faults)} faults**. "
        f"{len(historical)} of them rebuild {len(bugs)} bugs\nthat users reported, {len(faults) - len(historical)} are "
        f"typical mistakes in a weight mapping. {len(CORRUPTIONS)} corruptions damage checkpoints in every layout."
    )


def replaced(text: str, new: str) -> str:
    """Return the README's text with the sentence between its markers."""
    result, count = _BETWEEN.subn(lambda _: new, text)
    if count != 1:
        raise ValueError(f"expected one pair of markers <!-- counts --> and <!-- /counts -->, found {count}")
    return result


if __name__ == "__main__":
    README.write_text(replaced(README.read_text(encoding="utf-8"), sentence()), encoding="utf-8")
