import pytest

from cache.maintenance import VerifyReport
from cache.remotes import TransferReport
from commands import tell
from schema.errors import StoreError


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (2_540_000, "2.5 MB"), (7 * 10**12, "7.0 TB")]
)
def test_sizes_are_for_people(n_bytes, text):
    assert tell.size(n_bytes) == text


def test_of_many_names_the_first_are_told():
    assert tell.some(["a", "b"]) == "a, b"
    assert tell.some(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


def test_damaged_shards_are_an_error():
    tell.refuse_damaged("refused", TransferReport(1, 2, 3), "nothing")
    with pytest.raises(StoreError, match=r"1 damaged shard\(s\) refused \(found abc\); push again"):
        tell.refuse_damaged("refused", TransferReport(1, 2, 3, ("abc",)), "push again")


def test_shards_of_a_later_version_are_told(capsys):
    tell.verified(VerifyReport(3, 10, 0, ()), {})
    assert capsys.readouterr().out == "verify: 3 shards, 10 B, clean\n"
    tell.verified(VerifyReport(3, 10, 1, ()), {})
    assert "\n1 of them are whole and of a later version of fmit: their rows count as" in capsys.readouterr().out
