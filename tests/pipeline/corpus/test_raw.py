import pytest

from pipeline.corpus.records import ReadLog, TagReader, checked_utf8, lines
from schema.errors import DataError
from schema.labels import DEFAULT_LABELS


def test_only_line_feeds_end_a_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffa\r\nb\u2028c\u0085d\r\r\n\n\u00a0".encode())
    assert list(lines(path)) == [(1, "a"), (2, "b\u2028c\u0085d\r"), (3, ""), (4, "\u00a0")]


def test_carriage_returns_end_the_lines_of_a_file_without_line_feeds(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffa\r\rb\r".encode())
    assert list(lines(path)) == [(1, "a"), (2, ""), (3, "b")]
    path.write_bytes(b"")
    assert list(lines(path)) == []


def test_bytes_that_are_not_utf8_are_placed(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("ok\nna\u00efve\n".encode("latin-1"))
    (_, ok), (_, bad) = lines(path)
    assert checked_utf8(ok, "a.txt:1") == "ok"
    with pytest.raises(DataError, match=r"a\.txt:2: not UTF-8 \(found byte 0xef at 2\); save the file as UTF-8"):
        checked_utf8(bad, "a.txt:2")


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read \(found Is a directory\)"):
        list(lines(tmp_path))


@pytest.mark.parametrize(
    ("scheme", "tags", "iob2"),
    [
        ("iob2", "B-PER I-PER O I-OTHER", "B-PER I-PER O I-MISC"),
        ("iob1", "I-PER I-PER B-PER O I-LOC I-ORG", "B-PER I-PER B-PER O B-LOC B-ORG"),
        ("io", "PER PER OTHER O LOC", "B-PER I-PER B-MISC O B-LOC"),
        ("bioes", "S-PER B-LOC I-LOC E-LOC O", "B-PER B-LOC I-LOC I-LOC O"),
        ("bilou", "U-PER B-LOC I-LOC L-LOC O", "B-PER B-LOC I-LOC I-LOC O"),
        ("bmes", "S-PER B-LOC M-LOC E-OTHER O", "B-PER B-LOC I-LOC O O"),
    ],
)
def test_schemes_become_iob2(tmp_path, scheme, tags, iob2):
    reader, split = TagReader(DEFAULT_LABELS, scheme, tmp_path, ReadLog()), tags.split()
    assert reader.iob2(split, [1] * len(split))[0] == tuple(iob2.split())


@pytest.mark.parametrize("tag", ["B-EVENT", "B", "EVENT", "", "BB-EVENT"])
def test_unknown_tags_are_placed_every_time(tmp_path, tag):
    log = ReadLog()
    reader = TagReader(DEFAULT_LABELS, "iob2", tmp_path / "f.txt", log)
    for _ in range(2):
        with pytest.raises(DataError, match=r"f\.txt:7: unknown label .*add the type to source\.labels"):
            reader.iob2(["O", tag], [6, 7])
    assert log.unknown == {tag: 2}
