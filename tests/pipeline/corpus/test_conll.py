import pytest

from pipeline.corpus import conll
from pipeline.corpus.config import SourceConfig
from schema.errors import DataError


def read(tmp_path, text, **source):
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    return list(conll.read(path, SourceConfig(**source)))


def test_posts_with_labels(tmp_path):
    first, second = read(tmp_path, "IMGID:12_a\nKevin\tB-PER\n\u00a0\tO\nX\tI-OTHER\n\n\nIMGID: 7 \nOslo\tB-LOC")
    assert (first.id, first.words, first.tags) == ("12_a", ("Kevin", "\u00a0", "X"), ("B-PER", "O", "I-MISC"))
    assert (first.text, first.offsets) == ("Kevin \u00a0 X", ((0, 5), (6, 7), (8, 9)))
    assert (first.image_stem, first.images, first.where) == ("12_a", (), f"{tmp_path / 'a.txt'}:1")
    assert (second.id, second.words, second.tags, second.where[-2:]) == ("7", ("Oslo",), ("B-LOC",), ":7")


def test_windows_files_and_posts_that_no_blank_line_parts(tmp_path):
    first, second = read(tmp_path, "\ufeffIMGID:1\r\nHi\tO\r\nIMGID:2\r\n\r\nIMGID:3\tO\r\n\r\n")
    assert (first.words, second.words) == (("Hi",), ("IMGID:3",))


def test_posts_without_labels(tmp_path):
    (post,) = read(tmp_path, "IMGID:1\nHi\n\u00a0\nthere\n")
    assert post.words == ("Hi", "\u00a0", "there")
    assert post.tags is None


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("Hi\tO\n", 1, r"a word outside any post \(found 'Hi\\tO'\); begin each post with a line IMGID:<id>"),
        ("IMGID:1\nHi\tO\n\nyou\tO\n", 4, "a word outside any post"),
        ("IMGID:1\n\nIMGID:2\nHi\tO\n", 1, "post 1 has no words; give it a word, or remove its line"),
        ("IMGID:1\nHi\tO\nIMGID:2", 3, "post 2 has no words"),
        ("IMGID:\nHi\tO\n", 1, "a post without an id"),
        ("IMGID:1\nHi\tO\nyou\n", 3, "expected word<TAB>label .*label every word of a file, or none"),
        ("IMGID:1\nHi\n\nIMGID:2\nyou\tO\n", 5, "expected a word alone"),
        ("IMGID:1\nHi\tO\tO\n", 2, "expected word<TAB>label"),
        ("IMGID:1\nHi O\n", 2, "a blank inside a word .*part word and label by a tab"),
        ("IMGID:1\n\tO\n", 2, "an empty word"),
        ("IMGID:1\nHi\tB-GPE\n", 2, "unknown label 'B-GPE'"),
        ("IMGID:1\nHi\tS-PER\n", 2, r"'S-PER' is no iob2 tag; set source\.scheme: bioes"),
    ],
)
def test_bad_lines_are_placed(tmp_path, text, line, message):
    with pytest.raises(DataError, match=rf"a\.txt:{line}: {message}"):
        read(tmp_path, text)


def test_heads_are_counted_as_they_are_read():
    heads = [b"IMGID:1\n", b"\xef\xbb\xbfIMGID:1\r\n", b"IMGID:1\tO\n", b"\n", b"Hi\tO\n"]
    assert [conll.is_head(line) for line in heads] == [True, True, False, False, False]
