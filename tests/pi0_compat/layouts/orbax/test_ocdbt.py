"""Stores written without tensorstore: tensorstore finds every value, from the tree and from data files."""

from pathlib import Path

import pytest
import tensorstore as ts

from pi0_compat.layouts.orbax import ocdbt


def read(store: Path) -> dict[bytes, bytes]:
    opened = ts.KvStore.open({"driver": "ocdbt", "base": {"driver": "file", "path": f"{store}/"}}).result()
    return {key: opened.read(key).result().value for key in opened.list().result()}


@pytest.mark.parametrize("file_bytes", [2**31, 5000], ids=["one file", "several files"])
def test_tensorstore_reads_every_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_bytes: int) -> None:
    """Keys of many lengths, values in the tree, in files, and in several parts."""
    monkeypatch.setattr(ocdbt, "_FILE_BYTES", file_bytes)
    meant = {f"{'a' * (number % 7)}.value/{number}": bytes([number % 251]) * number for number in range(1, 1500, 13)}
    with ocdbt.DataFiles(tmp_path / "store") as files:
        values: dict[str, ocdbt.Value] = {
            key: value if len(value) < 700 else files.append([value[:300], value[300:]], len(value))
            for key, value in meant.items()
        }
    ocdbt.write_tree(tmp_path / "store", values | {"empty": b""})
    assert read(tmp_path / "store") == {key.encode(): value for key, value in meant.items()} | {b"empty": b""}
    dumped = ts.ocdbt.dump(ts.KvStore.open(f"file://{tmp_path}/store/").result()).result()
    statistics = dumped["versions"][-1]["root"]["statistics"]
    in_files = sum(value.length for value in values.values() if isinstance(value, ocdbt.Place))
    assert (statistics["num_keys"], statistics["num_indirect_value_bytes"]) == (len(meant) + 1, in_files)


def test_the_checksum_is_castagnolis() -> None:
    """The check value of CRC-32C, as its catalogues have it."""
    assert ocdbt.crc32c(b"123456789") == 0xE3069283


def test_a_tree_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that tensorstore would not read is not written."""
    monkeypatch.setattr(ocdbt, "_NODE_BYTES", 1000)
    with ocdbt.DataFiles(tmp_path / "store"):
        pass
    with pytest.raises(ValueError, match=r"200 keys take a node of [0-9]+ bytes, more than 1000"):
        ocdbt.write_tree(tmp_path / "store", {str(number): b"" for number in range(200)})
