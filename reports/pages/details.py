"""The details that the matrix shows on a click: each contract's law and source, each cell's cases.

Repeated texts, such as most reasons, are stored once and referenced by index, to keep the page small.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.pages.contracts import KINDS
from reports.read.museum import Museum
from reports.read.records import Record, area_of, severity_of
from reports.read.subject_columns import Column, by_contract


@dataclass
class Texts:
    """A table of distinct texts; the first is empty."""

    listed: list[str] = field(default_factory=lambda: [""])
    places: dict[str, int] = field(default_factory=lambda: {"": 0})

    def place(self, text: str) -> int:
        """Return the index of a text; append it if it is new."""
        if text not in self.places:
            self.places[text] = len(self.listed)
            self.listed.append(text)
        return self.places[text]


def details(columns: Sequence[Column], museum: Museum | None) -> dict[str, Any]:
    """Return all details as plain data.

    Returns:
      ``texts``; ``contracts``: id -> ``law``, ``source``, ``faults``; ``cells``: contract -> column index -> cases,
      each ``[case, outcome, severity, message, whose fault, reason, link]``, where all but outcome and severity are
      indices of ``texts``.
    """
    texts, cells = Texts(), dict[str, dict[int, list[list[Any]]]]()
    for place, column in enumerate(columns):
        for row in sorted(column.rows, key=lambda row: (row["contract"], row["case"])):
            cells.setdefault(row["contract"], {}).setdefault(place, []).append(_case(row, texts))
    faults = museum.by_contract() if museum else {}
    contracts = {
        row["contract"]: {"law": row["law"], "source": row["source"], "faults": faults.get(row["contract"], [])}
        for row in by_contract(columns).values()
    }
    return {"texts": texts.listed, "contracts": contracts, "cells": dict(sorted(cells.items()))}


def areas(columns: Sequence[Column]) -> Mapping[str, list[str]]:
    """Return area -> its contracts."""
    by_area: dict[str, list[str]] = {}
    for contract, row in by_contract(columns).items():
        by_area.setdefault(area_of(row), []).append(contract)
    return by_area


def as_script(data: Any) -> str:
    """Format data as JSON that is safe in a ``<script>``: nothing in it ends the element or begins a comment."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _case(row: Record, texts: Texts) -> list[Any]:
    why = row.get("expectation", {"kind": "", "reason": "", "link": ""})
    texts_of_case = [row["message"], KINDS.get(why["kind"], ""), why["reason"], why["link"]]
    return [texts.place(row["case"]), row["outcome"], severity_of(row), *map(texts.place, texts_of_case)]
