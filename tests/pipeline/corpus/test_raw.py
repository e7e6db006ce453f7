import pytest

from pipeline.corpus.records import TagReader, lines
from schema.errors import DataError
from schema.labels import DEFAULT_LABELS


def test_only_line_feeds_end_a_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffa\r\nb\u2028c\u0085d\r\r\n\n\u00a0".encode())
    assert list(lines(path)) == [(1, "a"), (2, "b\u2028c\u0085d\r"), (3, ""), (4, "\u00a0")]


def test_bytes_that_are_no_utf8_are_placed(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("ok\nna\u00efve\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.txt:2: not UTF-8 \(found byte 0xef at 2\); save the file as UTF-8"):
        list(lines(path))


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read \(found Is a directory\)"):
        list(lines(tmp_path))


@pytest.mark.parametrize(
    ("scheme", "tags", "iob2"),
    [
        ("iob2", "B-PER I-PER O I-OTHER", "B-PER I-PER O I-MISC"),
        ("iob1", "I-PER I-PER B-PER O I-LOC I-ORG", "B-PER I-PER B-PER O B-LOC B-ORG"),
        ("bioes", "S-PER B-LOC I-LOC E-LOC O", "B-PER B-LOC I-LOC I-LOC O"),
    ],
)
def test_schemes_become_iob2(tmp_path, scheme, tags, iob2):
    reader = TagReader(DEFAULT_LABELS, scheme)
    known = [reader.one(tag, tmp_path, 1) for tag in tags.split()]
    assert reader.iob2(known) == tuple(iob2.split())


@pytest.mark.parametrize("tag", ["B-EVENT", "B", "PER", "X-PER", "", "BB-PER"])
def test_unknown_tags_are_placed_every_time(tmp_path, tag):
    reader = TagReader(DEFAULT_LABELS, "iob2")
    for _ in range(2):
        with pytest.raises(DataError, match=r"f\.txt:7: unknown label .*add the type to source\.labels"):
            reader.one(tag, tmp_path / "f.txt", 7)


@pytest.mark.parametrize("scheme", ["iob2", "iob1"])
def test_tags_of_bioes_need_their_scheme(tmp_path, scheme):
    with pytest.raises(DataError, match=r"f:3: 'S-PER' is no iob. tag; set source\.scheme: bioes"):
        TagReader(DEFAULT_LABELS, scheme).one("S-PER", tmp_path / "f", 3)
