"""Keys name fields by value: order does not matter, kinds of numbers do."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import keys
from schema.errors import DataError, StoreError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_key_is_pinned() -> None:
    """If this moves, every store in the world is stale."""
    text = '{"fields":{"box":[0,1,2,3],"dtype":"float16","scale":0.1,"word":"caf\\u00e9"},"kind":"region"}'
    found = keys.key("region", dtype="float16", box=(0, 1, 2, 3), word="café", scale=0.1)
    assert found == hashlib.sha256(text.encode()).hexdigest()
    assert found == "aeb37595002276f9944bf4a352ba1530ba263682b95f9e004635b85ce721b9a3"


@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=4))
def test_order_of_fields_does_not_matter_and_content_does(fields: dict[str, Any]) -> None:
    turned = dict(reversed(fields.items()))
    assert keys.canonical(fields) == keys.canonical(turned)
    assert json.loads(keys.canonical(fields)) == fields


def test_kinds_and_types_differ() -> None:
    names = [keys.key("a", x=1), keys.key("b", x=1), keys.key("a", x=1.0), keys.key("a", x="1"), keys.key("a", x=True)]
    names += [keys.key("a", x=None), keys.key("a"), keys.key("a", y=1), keys.key("a", x=[1])]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1: 2}, [{None: 1}], {"a": ({2: 1},)}, Path("x"), np.float32(1), b"x", {1, 2}]
)
def test_what_has_no_one_text_is_refused(value: Any) -> None:
    with pytest.raises(
        DataError, match=r"cannot be written as canonical JSON: .*; use text, .* and mappings with text keys"
    ):
        keys.key("a", x=value)


def test_digests_are_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert keys.digest_bytes(b"abc") == keys.digest_file(tmp_path / "abc") == known


@given(st.lists(st.binary(min_size=32, max_size=32)))
def test_packed_keys_come_back(raw: list[bytes]) -> None:
    names = [one.hex() for one in raw]
    packed = keys.pack_keys(names)
    assert packed.shape == (len(raw),)
    assert keys.unpack_keys(packed) == names


def test_a_bad_key_is_named() -> None:
    with pytest.raises(
        StoreError, match=r"a key is 64 lowercase hex digits \(found 'x{64}'\); make it with cache.keys.key"
    ):
        keys.pack_keys(["0" * 64, "x" * 64])
