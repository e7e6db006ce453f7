import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cache.tables import read_posts
from pipeline.corpus import stage as ingest_stage
from pipeline.corpus.config import PRESETS, SourceConfig
from schema.errors import ConfigError, DataError
from tests.imports import ROOT

SHARED = ROOT / "../shared/data"
needs_corpora = pytest.mark.skipif(not (SHARED / "twitter2015").is_dir(), reason="no corpora beside this folder")


def source(**values):
    return SourceConfig.from_section(values, "data.x.source", PRESETS)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (5, 3)).save(tmp_path / "images/1.jpg")
    (tmp_path / "images/2.jpg").write_bytes(b"no image")
    posts = {
        "train.txt": "IMGID:1\nOslo\tB-LOC\n\nIMGID:2\nX\tI-PER\n\nIMGID:1\nHi\tO\n",
        "valid.txt": "IMGID:1\nHi\tO\n",
    }
    for name, text in posts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


CONLL = source(files={"train": "train.txt", "dev": "valid.txt"})


def test_posts_labels_and_figures_are_written(folder):
    report = ingest_stage.run(CONLL, folder, folder / "out/posts.parquet")
    found = read_posts(folder / "out/posts.parquet")
    assert [(post.id, post.split, post.tags) for post in found.posts] == [
        ("1", "train", ("B-LOC",)),
        ("2", "train", ("I-PER",)),
        ("1~2", "train", ("O",)),
        ("1~3", "dev", ("O",)),
    ]
    assert [post.images[0].state for post in found.posts] == ["ok", "broken", "ok", "ok"]
    assert found.labels == CONLL.label_set()
    assert found.meta["repeated_ids"] == report.log.n_repeated == 2
    assert found.meta["synthetic"] is False
    assert found.meta["counts"]["train"]["n_orphans"] == 1
    assert found.meta["sources"]["dev"]["file"] == "valid.txt"
    assert report.line("mine") == "ingest mine: 4 rows; images: 3 ok, 0 missing, 1 broken, 0 refused"
    assert report.remarks()[0] == "2 repeated id(s) became id~2 and so on; the given id is kept beside it"
    assert report.remarks()[1].startswith("1 image(s) broken: 2.jpg: ")


def test_the_same_folder_elsewhere_gives_the_same_bytes(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "copy"
    folder.rename(other)
    ingest_stage.run(CONLL, other, other / "a.parquet")
    first = (other / "a.parquet").read_bytes()
    other.rename(folder)
    ingest_stage.run(CONLL, folder, folder / "b.parquet")
    assert (folder / "b.parquet").read_bytes() == first


def test_a_subset_is_the_first_posts_of_each_file(folder):
    """Nothing behind them is read: a bad line, an image that nobody of them has."""
    ingest_stage.run(CONLL, folder, folder / "all.parquet")
    whole = read_posts(folder / "all.parquet").posts
    (folder / "train.txt").write_text((folder / "train.txt").read_text() + "\nIMGID:7\nbad line\n")
    seen = []
    subset = source(files=CONLL.files, first=2)
    report = ingest_stage.run(subset, folder, folder / "subset.parquet", lambda done, total: seen.append((done, total)))
    found = read_posts(folder / "subset.parquet").posts
    assert [(one.split, one.words, one.images) for one in found] == [
        (one.split, one.words, one.images) for one in (*whole[:2], whole[3])
    ]
    assert (report.line("ci"), seen[-1]) == (
        "ingest ci: 3 rows; images: 2 ok, 0 missing, 1 broken, 0 refused",
        (3, 3),
    )


@needs_corpora
def test_a_subset_of_a_known_corpus_is_not_that_corpus(tmp_path):
    report = ingest_stage.run(source(files={"train": "train.txt"}, first=5), SHARED / "twitter2017", tmp_path / "o")
    assert (report.counts.total("n_posts"), report.variant, report.corpus) == (5, "", "")


def test_progress_reaches_the_number_of_posts(folder):
    seen = []
    ingest_stage.run(CONLL, folder, folder / "o", lambda done, total: seen.append((done, total)))
    assert seen[0] == (1, 4)
    assert seen[-1] == (4, 4)


def test_nothing_is_written_for_bad_data(folder):
    (folder / "valid.txt").write_text("IMGID:9\nHi\tB-GPE\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"valid\.txt:2: unknown label 'B-GPE'"):
        ingest_stage.run(CONLL, folder, folder / "o")
    (folder / "valid.txt").write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"valid\.txt: no posts; add posts, or remove dev from source\.files"):
        ingest_stage.run(CONLL, folder, folder / "o")
    (folder / "valid.txt").unlink()
    with pytest.raises(ConfigError, match=r"valid\.txt: no dev file"):
        ingest_stage.run(CONLL, folder, folder / "o")
    assert not (folder / "o").exists()


def test_drawn_images_make_drawn_data(folder):
    chunk = PngInfo()
    chunk.add_text("fmit-drawn", "1")
    Image.new("RGB", (5, 3)).save(folder / "images/1.jpg", "PNG", pnginfo=chunk)
    ingest_stage.run(CONLL, folder, folder / "o")
    assert read_posts(folder / "o").meta["synthetic"] is True


def test_six_types_as_raw_text_go_through_by_params_alone(tmp_path):
    labels = {"PER": "person", "GPE": "city", "ORG": "company", "EVENT": "event", "WORK": "song", "PROD": "phone"}
    text = "Kevin in Oslo bought a Nokia"
    entities = [{"start": 9, "end": 13, "type": "LOC"}, {"start": 23, "end": 28, "type": "PROD"}]
    (tmp_path / "all.jsonl").write_text(json.dumps({"id": "a", "text": text, "entities": entities}), encoding="utf-8")
    config = source(preset="jsonl", files={"train": "all.jsonl"}, labels=labels, aliases={"LOC": "GPE"})
    report = ingest_stage.run(config, tmp_path, tmp_path / "o")
    found = read_posts(tmp_path / "o")
    assert found.labels.types == tuple(labels)  # in the order of params
    assert found.posts[0].tags == ("O", "O", "B-GPE", "O", "O", "B-PROD")
    assert found.posts[0].text == text
    assert [row[1] for row in report.rows()[1:8]] == ["0", "1", "0", "0", "0", "1", "2"]


@needs_corpora
@pytest.mark.parametrize(
    ("name", "files", "n_posts", "n_entities", "n_orphans"),
    [
        ("twitter2015", None, (4000, 1000, 3257), (6166, 1541, 5072), (186, 53, 135)),
        ("twitter2017", {"train": "train.txt", "valid": "valid.txt"}, (3373, 723), (6049, 1324), (0, 0)),
    ],
)
def test_the_corpora_have_their_known_figures(tmp_path, name, files, n_posts, n_entities, n_orphans):
    config = source(preset="conll", **({"files": files} if files else {}))
    report = ingest_stage.run(config, SHARED / name, tmp_path / "o")
    splits = report.counts.splits.values()
    assert tuple(split.n_posts for split in splits) == n_posts
    assert tuple(split.entities.total() for split in splits) == n_entities
    assert tuple(split.n_orphans for split in splits) == n_orphans
    assert (report.variant, report.corpus) == (f"{name}-umt", name)
    assert report.warning.endswith("missing): the model reads an empty image instead")
    posts = read_posts(tmp_path / "o").posts
    assert len(posts) == sum(n_posts)
    if name == "twitter2015":
        assert any("\u00a0" in post.words for post in posts)


@needs_corpora
def test_photographs_are_found(tmp_path):
    report = ingest_stage.run(source(files={"test": "test.txt"}), SHARED / "photos", tmp_path / "o")
    assert report.line("photos") == "ingest photos: 23 rows; images: 23 ok, 0 missing, 0 broken, 0 refused"


def test_another_variant_of_a_known_corpus_is_remarked(folder):
    named = folder / "twitter2015"
    named.mkdir()
    (folder / "train.txt").rename(named / "train.txt")
    report = ingest_stage.run(source(files={"train": "train.txt"}), named, folder / "o")
    (remark,) = (one for one in report.remarks() if one.startswith("warning"))
    assert "no known variant of twitter2015 has these files: train (known variants: twitter2015-umt, tw" in remark
    assert remark == f"warning: {read_posts(folder / 'o').meta['warning']}"
    assert report.rows()[0][0] == "entities (in the paper)"
