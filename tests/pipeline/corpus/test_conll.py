import pytest

from pipeline.corpus import conll
from pipeline.corpus.config import SourceConfig
from pipeline.corpus.records import ReadLog
from schema.errors import DataError


def read(tmp_path, text, **source):
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    return [read() for read in conll.posts(path, SourceConfig(**source), ReadLog())]


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
        (
            "IMGID:1\nHi\tO\n\nyou\tO\n",
            4,
            r"a word outside any post \(found 'you\\tO'\); begin each post with a line IMGID:",
        ),
        (
            "Hi\tO\n\nIMGID:1\nyou\tO\n",
            3,
            "unexpected IMGID: line: the first post has none; begin each post of the file",
        ),
        ("IMGID:1\n\nIMGID:2\nHi\tO\n", 1, "post 1 has no words; give it a word, or remove its line"),
        ("IMGID:1\nHi\tO\nIMGID:2", 3, "post 2 has no words"),
        ("IMGID:\nHi\tO\n", 1, "a post without an id"),
        ("IMGID:1\nHi\tO\nyou\n", 3, "expected 2 columns separated by tabs, .*; label every word of a file, or none"),
        (
            "Hi\tO\nyou\tO\nthere O\n",
            3,
            r"expected 2 columns .*found 'there O'\); there is a space in place of the tab",
        ),
        (
            "IMGID:1\nHi\n\nIMGID:2\nyou\tO\n",
            5,
            r"expected one word per line \(found 'you\\tO'\); remove what follows the word",
        ),
        ("Hi\tO\nyou\tO\nthere\tX\tO\n", 3, "expected 2 columns"),
        ("IMGID:1\n\tB-PER\n", 2, "an empty word"),
        ("IMGID:1\nHi\tB-GPE\n", 2, "unknown label 'B-GPE'"),
        (
            "IMGID:1\nHi\tS-PER\n",
            2,
            "label 'S-PER' has the prefix 'S', which iob2 does not have; set source.scheme: bioes or bmes",
        ),
        ("IMGID:1\nHi\tL-PER\n", 2, "label 'L-PER' has the prefix 'L', .*; set source.scheme: bilou"),
        ("IMGID:1\nHi\tX-PER\n", 2, "label 'X-PER' has the prefix 'X', .*; correct the label"),
        ("IMGID:1\nHi\tb-per\n", 2, "unknown label 'b-per'; write 'B-PER': labels are case-sensitive"),
        ("IMGID:1\nHi\tPER\n", 2, "label 'PER' has no prefix; write B- before an entity's first word"),
        ("WID:L36\nHi\tO\nyou\tO\n", 1, "expected 2 columns .*; if the line begins a post, write IMGID:<id>"),
        ("IMGID:1\nHi\tB-ORGG\n", 2, "unknown label 'B-ORGG', .*; did you mean ORG\\?"),
    ],
)
def test_bad_lines_are_placed(tmp_path, text, line, message):
    with pytest.raises(DataError, match=rf"a\.txt:{line}: {message}"):
        read(tmp_path, text)


def test_a_head_may_end_in_a_tab(tmp_path):
    (post,) = read(tmp_path, "IMGID:1\t\nHi\tO\n")
    assert (post.id, post.words) == ("1", ("Hi",))


def test_plain_conll_gets_ids_from_the_file_and_has_no_images(tmp_path):
    text = "-DOCSTART-\tO\n\t\n# a comment\nHi\tO\n#\tO\n   \n\t\nOslo\tB-LOC\n\u00a0\tO\n"
    first, second = read(tmp_path, text)
    assert (first.id, first.words, first.tags, first.where[-2:]) == ("a-1", ("Hi", "#"), ("O", "O"), ":4")
    assert (second.id, second.words, second.tags) == ("a-2", ("Oslo", "\u00a0"), ("B-LOC", "O"))
    assert (first.image_stem, first.images) == ("", ())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("blank", [" ", "\t"])
def test_line_ends_separators_and_marks(tmp_path, end, mark, blank):
    lines = ["-DOCSTART- -X- O O", "", "# id 1", "Ann NNP B-PER", "# NN O", "", "Rome NNP B-LOC", ""]
    text = mark + end.join(line.replace(" ", blank) if line != "# id 1" else line for line in lines)
    columns = {"word": 0, "label": -1}
    assert [(one.words, one.tags) for one in read(tmp_path, text, columns=columns)] == [
        (("Ann", "#"), ("B-PER", "O")),
        (("Rome",), ("B-LOC",)),
    ]


def test_columns_are_named_by_params(tmp_path):
    text = "1 Ann B-PER x\n2 in O x\n"
    with pytest.raises(
        DataError, match=r"a\.txt: 4 columns, cannot tell which .* \(found '1 Ann B-PER x'\); set source\.columns"
    ):
        read(tmp_path, text)
    (post,) = read(tmp_path, text, columns={"word": 1, "label": 2})
    assert (post.words, post.tags) == (("Ann", "in"), ("B-PER", "O"))
    assert read(tmp_path, text, columns={"word": 1, "label": None})[0].tags is None
    with pytest.raises(DataError, match=r"a\.txt: 4 columns, cannot tell .* \(found '1 Ann B-PER x'\)"):
        read(tmp_path, f"# id 7\tdomain=trial\n{text}")
    (post,) = read(tmp_path, f"0 -DOCSTART- O x\n\n{text}", columns={"word": 1, "label": 2})
    assert post.words == ("Ann", "in")
    with pytest.raises(DataError, match=r"a\.txt:1: no such column among 4 \(found 1, 7\)"):
        read(tmp_path, text, columns={"word": 1, "label": 7})


def test_posts_are_counted_as_they_are_read(tmp_path):
    path = tmp_path / "a.txt"
    for text, n in (("\ufeffIMGID:1\r\nIMGID:2\tO\n\nIMGID:3\nHi\tO\n", 2), ("-DOCSTART-\n\nHi\n\t\n\nyou\nall\n", 2)):
        path.write_text(text, encoding="utf-8")
        assert conll.count(path) == n


def test_malformed_bioes_is_counted_and_not_merged(tmp_path):
    path, log = tmp_path / "a.txt", ReadLog()
    path.write_text("Ann S-PER\nBob E-PER\nCid I-PER\n\nDan B-PER\nEve O\n")
    first, second = [one() for one in conll.posts(path, SourceConfig(scheme="bioes"), log)]
    assert (first.tags, first.n_orphans) == (("B-PER", "O", "O"), 2)
    assert (second.tags, second.n_orphans, log.n_unclosed) == (("B-PER", "O"), 0, 1)


def test_a_row_without_a_word_is_left_out_and_counted(tmp_path):
    path, log = tmp_path / "a.txt", ReadLog()
    path.write_text("Hi\tO\n\tO\nyou\tO\n\n\tO\n")
    post, nothing = [one() for one in conll.posts(path, SourceConfig(), log)]
    assert (post.words, post.tags, nothing) == (("Hi", "you"), ("O", "O"), None)
    assert (log.n_empty_words, log.n_empty_posts) == (2, 1)
