"""The schema of result files accepts the toy, and rejects a missing key, an unknown key or a wrong number."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.reports.toy_benchmarks import Json, result

SCHEMA = json.loads((Path(__file__).parents[2] / "reports/schema/results.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
# Objects whose keys a run chooses, and one that may lack some.
FREE = ("options", "stages", "values", "packages")
FREE_ENDS = [(key,) for key in (*FREE, "subjects")]
MAY_LACK = "processes"

Place = tuple[str | int, ...]


def objects(value: Any, place: Place = ()) -> Iterator[tuple[Place, Json]]:
    """Yield every object of a result with its place; of a list, only those in its first item."""
    if isinstance(value, dict):
        yield place, value
        for key, inner in value.items():
            yield from objects(inner, (*place, key))
    if isinstance(value, list) and value:
        yield from objects(value[0], (*place, 0))


def at(value: Any, place: Place) -> Any:
    for key in place:
        value = value[key]
    return value


def rich() -> Json:
    """Return a result whose one cell has everything that any cell has."""
    load, _, step, *_ = result()["cells"]
    return result(step | {"digest": load["digest"], "samples": load["samples"]})


def name(place: Place) -> str:
    return "/".join(map(str, place)) or "all"


STRICT = {place: entry for place, entry in objects(rich()) if place[-1:] not in FREE_ENDS}
KEYS = [(place, key) for place, entry in STRICT.items() if MAY_LACK not in place for key in entry]


def test_it_is_a_schema_and_accepts_the_toy() -> None:
    VALIDATOR.check_schema(SCHEMA)
    VALIDATOR.validate(result())
    VALIDATOR.validate(rich())
    assert len(STRICT) > 10
    assert len(KEYS) > 50


@pytest.mark.parametrize("place", STRICT, ids=map(name, STRICT))
def test_an_unknown_key_is_rejected(place: Place) -> None:
    """A misspelled key would be lost silently."""
    changed = copy.deepcopy(rich())
    at(changed, place)["mood"] = "good"
    assert not VALIDATOR.is_valid(changed)


@pytest.mark.parametrize(("place", "key"), KEYS, ids=[name((*place, key)) for place, key in KEYS])
def test_a_missing_key_is_rejected(place: Place, key: str) -> None:
    changed = copy.deepcopy(rich())
    del at(changed, place)[key]
    assert not VALIDATOR.is_valid(changed)


@pytest.mark.parametrize("key", FREE)
def test_some_objects_are_free(key: str) -> None:
    """Options, stages, values and packages differ between runs."""
    places = {"packages": ("subjects", "reference"), "stages": ("cells", 0, "samples", 0)}
    changed = copy.deepcopy(rich())
    entry = at(changed, places.get(key, ("cells", 0)))[key]
    entry["mood"] = "good" if key in ("options", "packages") else 1
    VALIDATOR.validate(changed)
    entry["mood"] = ["good"]
    assert not VALIDATOR.is_valid(changed)


WRONG: dict[str, tuple[Place, Any]] = {
    "another format": (("schema",), "pi0-compat/rows"),
    "another version": (("schema_version",), 2),
    "no subject": (("subjects",), {}),
    "a short commit": (("run", "commit"), "1a2b3c4"),
    "local time": (("run", "started"), "2026-11-22T08:00:00+01:00"),
    "a run without a commit": (("run", "id"), "2026-11-22T08:00:00Z"),
    "a slug with a blank": (("environment", "slug"), "My machine"),
    "more than all stolen": (("environment", "noise", "steal_share"), 1.5),
    "no cores": (("environment", "cpu", "cores"), 0),
    "a ceiling of nothing": (("ceilings", "memcpy_gbs"), 0),
    "a product of nothing": (("ceilings", "matmul_tflops", "float32"), 0),
    "an empty fixture": (("fixtures", 0, "bytes"), 0),
    "half a digest": (("fixtures", 0, "sha256"), "0123"),
    "another workload": (("cells", 0, "workload"), "train"),
    "another size": (("cells", 0, "size"), "huge"),
    "another outcome": (("cells", 0, "outcome"), "skipped"),
    "an empty reason": (("cells", 0, "reason"), ""),
    "a cell of no workload": (("cells", 0, "id"), "train/lora"),
    "a negative value": (("cells", 0, "values", "batch"), -1),
    "no time at all": (("cells", 0, "samples", 0, "wall_s"), 0),
    "a negative time": (("cells", 0, "samples", 0, "cpu_s"), -1),
    "a negative stage": (("cells", 0, "samples", 0, "stages", "read"), -0.1),
    "half a byte": (("cells", 0, "samples", 0, "host_peak_bytes"), 0.5),
    "a process before the first": (("cells", 0, "samples", 0, "process"), -1),
    "a negative compilation": (("cells", 0, "processes", 0, "compile_s"), -1),
    "half a compilation": (("cells", 0, "processes", 0, "compiles"), 0.5),
    "a loss as text": (("cells", 0, "losses"), ["NaN"]),
    "a digest of nothing": (("cells", 0, "digest", "found"), ""),
}


@pytest.mark.parametrize(("place", "value"), WRONG.values(), ids=WRONG)
def test_other_values_are_rejected(place: Place, value: Any) -> None:
    changed = copy.deepcopy(rich())
    assert place[-1] in at(changed, place[:-1])
    at(changed, place[:-1])[place[-1]] = value
    assert not VALIDATOR.is_valid(changed)


UNKNOWN: dict[str, Place] = {
    "a product": ("ceilings", "matmul_tflops"),
    "a copy to the device": ("ceilings", "host_to_device_gbs"),
    "memory": ("environment", "ram_bytes"),
    "bytes read": ("cells", 0, "samples", 0, "read_bytes"),
    "a loss that is not finite": ("cells", 0, "losses", 0),
    "a digest": ("cells", 0, "digest"),
}


@pytest.mark.parametrize("place", UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_number_is_null(place: Place) -> None:
    """A machine that cannot measure a number records null and does not invent one."""
    changed = copy.deepcopy(rich())
    at(changed, place[:-1])[place[-1]] = None
    VALIDATOR.validate(changed)
