"""The index against a dictionary: whatever shards come and go, it finds what a dictionary finds."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import keys
from cache.store import Index, merge, read_index, segment_of
from tests.cache.rows import flip

NAMES = [keys.digest_bytes(bytes([at])) for at in range(12)]


def packed(numbers: list[int]) -> np.ndarray:
    """Keys that collide in their first bytes, zero among them."""
    return np.array([number.to_bytes(32, "big") for number in numbers], keys.PACKED)


def fill(index: Index, shards: dict[str, list[int]]) -> None:
    index.add(segment_of({name: packed(numbers) for name, numbers in shards.items()}), dict.fromkeys(shards, 7))


def expected(shards: dict[str, list[int]], number: int) -> tuple[str, int] | None:
    """The row in the shard whose name comes first."""
    found = [(name, numbers.index(number)) for name, numbers in sorted(shards.items()) if number in numbers]
    return found[0] if found else None


def assert_like(index: Index, shards: dict[str, list[int]]) -> None:
    found, prefixes, rows = index.find(packed(list(range(30))))
    for number in range(30):
        right = expected(shards, number)
        assert found[number] == (right is not None)
        if right:
            assert (index.names[int(prefixes[number])], rows[number]) == right
    assert keys.unpack_keys(np.unique(index._all.keys)) == [
        f"{n:064x}" for n in sorted({n for one in shards.values() for n in one})
    ]
    assert len(index._all.keys) == sum(map(len, shards.values()))


STEPS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.one_of(st.none(), st.lists(st.integers(0, 29), unique=True, max_size=12))),
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_it_finds_what_a_dictionary_finds(steps: list[tuple[str, list[int] | None]]) -> None:
    index, shards = Index(), dict[str, list[int]]()
    for name, numbers in steps:
        index.remove([name])
        shards.pop(name, None)
        if numbers is not None:
            index.add(segment_of({name: packed(numbers)}), {name: len(numbers)})
            shards[name] = numbers
        assert_like(index, shards)
    assert index.sizes == {name: len(numbers) for name, numbers in shards.items()}


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), st.lists(st.integers(0, 29), unique=True), max_size=6))
def test_a_file_says_the_same(tmp_path_factory: pytest.TempPathFactory, shards: dict[str, list[int]]) -> None:
    index = Index()
    fill(index, shards)
    data = index.encode()
    path = tmp_path_factory.mktemp("index") / f"{keys.digest_bytes(data)}.h5"
    path.write_bytes(data)
    again = Index()
    half = dict(list(shards.items())[::2])
    fill(again, half)
    again.add(*read_index(path))
    assert_like(again, shards)
    assert again.encode() == data


def test_merge_sorts_by_key_then_shard() -> None:
    shards = {NAMES[at]: packed([5, 1, at]) for at in (3, 0, 2, 7)}
    whole = segment_of({})
    for name in shards:
        whole = merge(whole, segment_of({name: shards[name]}))
    order = [(bytes(key), int(shard)) for key, shard in zip(whole.keys, whole.shards, strict=True)]
    assert order == sorted(order)
    assert all(np.array_equal(*columns) for columns in zip(whole, segment_of(shards), strict=True))


def test_a_flipped_file_is_an_error(tmp_path: Path) -> None:
    index = Index()
    fill(index, {NAMES[0]: [1, 2]})
    data = index.encode()
    path = tmp_path / f"{keys.digest_bytes(data)}.h5"
    path.write_bytes(data)
    flip(path, len(data) // 2)
    with pytest.raises(OSError, match="bytes do not match its name"):
        read_index(path)
    other = tmp_path / f"{keys.digest_bytes(b'x')}.h5"
    other.write_bytes(b"x")
    with pytest.raises(OSError, match="not a readable HDF5 file"):
        read_index(other)
