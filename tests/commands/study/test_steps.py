"""The steps on a few posts: what runs, what is kept, what goes on."""

import json
import shutil

import pytest
from torch import OutOfMemoryError

import model.train
from cache.packs import Pack
from cache.tables import read_boxes
from commands.study import command, steps
from commands.study.steps import cross_all, is_scored, labelled, measure, prepare, score, train, train_all
from commands.study.study import Study, Unit
from schema.errors import PackError, RunError
from tests.commands.study.made_study import make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Both datasets prepared; every approach trained on the first, fmit on both."""
    made = make_study(tmp_path_factory.mktemp("study"))
    said: list[str] = []
    for dataset in made.asked.datasets:
        prepare(made, dataset, said.append)
    units = [one for one in made.units() if one.dataset == "tiny" or one.approach == "fmit"]
    assert train_all(made, units, made.asked.approaches, said.append, "cpu") == {}
    assert said[-1] == "5 runs trained, 5 scored, 0 left out"  # fmit-l1 is fmit here
    return made


def test_random_boxes_stand_at_the_same_phrases_and_say_so(study):
    boxes, meta = read_boxes(study.out("tiny", "random-boxes") / "boxes.parquet")
    own, _ = read_boxes(study.out("tiny", "boxes.parquet"))
    places = [[(one.post_id, one.source, one.span, one.text) for one in some] for some in (boxes, own)]
    assert places[0] == places[1]
    assert meta["ground"]["config"]["grounder"] == "random"
    assert [one.box for one in boxes] != [one.box for one in own]
    assert Pack.open(study.pack_for("tiny", "fmit-random-boxes")).digest() != Pack.open(study.pack("tiny")).digest()
    assert Pack.open(study.pack("tiny")).grid is not None


def test_a_second_call_trains_and_scores_nothing(study):
    said: list[str] = []
    train_all(study, [one for one in study.units() if one.dataset == "tiny"], study.asked.approaches, said.append)
    assert said == ["0 runs trained, 0 scored, 0 left out"]


def test_a_twin_that_is_not_trained_here_excuses_nobody(study, monkeypatch):
    trained = []
    monkeypatch.setattr(steps, "train", lambda study, unit, *rest: trained.append(unit) or False)
    monkeypatch.setattr(steps, "score", lambda *rest: False)
    units = [Unit("tiny", "fmit-l1", 0), Unit("tiny", "fmit", 0), Unit("tiny-other", "fmit", 0)]
    train_all(study, units, ("fmit-l1", "fmit"), lambda text: None)
    assert trained == [Unit("tiny", "fmit-l1", 0), Unit("tiny-other", "fmit", 0)]


def test_changed_settings_make_a_run_stale(study):
    unit = Unit("tiny", "fmit", 0)
    assert study.fresh(unit)
    for changed in ({"epochs": 2}, {"lr_head": 0.5}):
        asked = study.asked.model_copy(update={"train": {"tiny": changed}})
        assert not Study.over(study.home, study.root, asked).fresh(unit)
    assert not study.fresh(unit._replace(seed=1))


def test_changed_features_make_a_run_stale(study, tmp_path):
    copy = tmp_path / "study"
    shutil.copytree(study.root, copy)
    made = Study.read(copy / "params.yaml")
    unit = Unit("tiny", "fmit", 0)
    assert made.fresh(unit)
    shutil.rmtree(made.pack("tiny"))
    shutil.copytree(made.variant("tiny", "random-boxes"), made.pack("tiny"))
    assert not Study.read(copy / "params.yaml").fresh(unit)


def test_an_interrupted_training_goes_on(study, tmp_path, monkeypatch):
    keeper = model.train.FileKeeper
    monkeypatch.setattr(model.train, "FileKeeper", lambda folder, every_s: keeper(folder, 0.0))  # keep every step
    asked = study.asked.model_copy(update={"train": {"tiny": {"epochs": 2}}})
    made, unit = Study.over(study.home, tmp_path, asked), Unit("tiny", "fmit", 0)
    shutil.copytree(study.root / "out", tmp_path / "out")
    epochs = made.train(*unit, pack=made.pack("tiny"), device="cpu")
    next(epochs)
    epochs.close()
    assert not made.fresh(unit)
    assert list((tmp_path / ".fmit" / "resume").iterdir())
    said: list[str] = []
    assert train(made, unit, said.append, "cpu")
    assert made.fresh(unit)
    assert not list((tmp_path / ".fmit" / "resume").iterdir())


def test_scores_are_taken_again_for_other_weights_or_features(study, tmp_path):
    unit = Unit("tiny", "bert-crf", 0)
    assert labelled(study, "tiny") == ["dev", "test"]
    assert not score(study, unit, "tiny", "cpu")
    stamp = study.run(*unit) / "features.json"
    before = stamp.read_text()
    stamp.write_text(json.dumps({"pack": "another"}))
    assert score(study, unit, "tiny", "cpu")
    assert stamp.read_text() == before
    run = study.run(*unit)
    assert is_scored(study, run, run, "tiny", ["dev"], json.loads(before))
    assert not is_scored(study, run, run, "tiny", ["train"], json.loads(before))
    assert not is_scored(study, run, run, "tiny-other", ["dev"], json.loads(before))


def test_crossings_score_on_the_other_dataset_once(study):
    said: list[str] = []
    assert cross_all(study, ("fmit", "bert-crf"), said.append, "cpu") == 3  # bert-crf has no run on the second
    assert cross_all(study, ("fmit", "bert-crf"), said.append, "cpu") == 0
    run = study.run("tiny-other", "fmit", 0)
    there = study.root / "crossed" / "tiny-other-to-tiny" / run.name
    metrics = json.loads((there / "scores" / "metrics-test.json").read_text())
    assert metrics["n_posts"] == 4
    assert study.field().metrics("tiny-other", "fmit", "tiny")[0] == metrics


def test_the_field_has_twins_and_says_what_is_missing(study):
    field = study.field(failed={("tiny-other", "umt"): "no grid"})
    assert field.runs["tiny", "fmit-l1", 0] == study.run("tiny", "fmit", 0)
    assert field.missing["tiny-other", "bert-crf"] == "no fresh run"
    assert field.missing["tiny-other", "umt"] == "no grid"
    assert field.tiny
    assert field.split("tiny") == "test"


def test_features_that_are_not_there_leave_a_row_out_and_say_why(study, tmp_path):
    shutil.copytree(study.root / "out", tmp_path / "out")
    made = Study.over(study.home, tmp_path, study.asked)
    shutil.rmtree(made.variant("tiny", "random-boxes"))
    said: list[str] = []
    failed = train_all(made, [Unit("tiny", "fmit-random-boxes", 0)], made.asked.approaches, said.append, "cpu")
    assert list(failed) == [("tiny", "fmit-random-boxes")]
    assert said[-1] == "0 runs trained, 0 scored, 1 left out"
    assert said[0].startswith("not run: tiny-fmit-random-boxes-0: ")


def test_figures_of_the_bench_are_kept_and_a_failure_is_told(tmp_path, monkeypatch):
    out = tmp_path / "fusion.json"
    out.write_text("{}")
    measure(out, pytest.fail)
    out.unlink()
    calls = []

    def failing(command, **_):
        calls.append(command)
        return type("Done", (), {"returncode": 3, "stderr": "no such shape"})

    monkeypatch.setattr(steps.subprocess, "run", failing)
    with pytest.raises(RunError, match=r"bench.fusion failed \(found no such shape\); run -m bench.fusion --out"):
        measure(out, calls.append, "--tiny")
    assert calls[-1][1:] == ["-m", "bench.fusion", "--out", str(out), "--tiny"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model/config.json", b"junk"),
        ("model/config.json", b"[]"),
        ("model/config.json", b'{"schema_version": 1}'),
        ("model/config.json", b'{"schema_version": 0}'),
        ("model/weights.safetensors", None),
        ("model/weights.safetensors", b"cut"),
    ],
)
def test_a_damaged_run_is_trained_anew(study, tmp_path, name, text):
    run, damaged = study.run("tiny", "bert-crf", 0), tmp_path / "tiny-bert-crf-0"
    shutil.copytree(run, damaged)
    unit = Unit("tiny", "bert-crf", 0)
    assert study.fresh(unit, damaged)
    (damaged / name).unlink()
    if text is not None:
        (damaged / name).write_bytes(text)
    assert not study.fresh(unit, damaged)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("scores/metrics-dev.json", b"junk"),
        ("scores/metrics-dev.json", b"\xff"),
        ("scores/metrics-dev.json", b"[]"),
        ("scores/predictions-test.jsonl", None),
        ("features.json", b"\xff"),
        ("features.json", b"[]"),
    ],
)
def test_damaged_scores_are_taken_again(study, tmp_path, name, text):
    unit, damaged = Unit("tiny", "bert-crf", 0), tmp_path / "tiny-bert-crf-0"
    shutil.copytree(study.run(*unit), damaged)
    assert not score(study, unit, "tiny", "cpu", folder=damaged)
    (damaged / name).unlink()
    if text is not None:
        (damaged / name).write_bytes(text)
    assert score(study, unit, "tiny", "cpu", folder=damaged)
    for one in sorted((study.run(*unit) / "scores").iterdir()):
        assert (damaged / "scores" / one.name).read_bytes() == one.read_bytes()


def test_scores_of_other_weights_go(study, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(study.run("tiny", "bert-crf", 0), run)
    steps.forget_scores(run)
    assert (run / "scores").is_dir()
    shutil.copy(study.run("tiny", "fmit", 0) / "model" / "weights.safetensors", run / "model")
    steps.forget_scores(run)
    assert not (run / "scores").exists()


def test_an_approach_that_fails_leaves_the_others_to_go_on(study, monkeypatch):
    def failing(study, unit, *rest):
        if unit.approach == "fmit":
            raise RunError("training diverged", where="epoch 1")
        if unit.approach == "umt":
            raise OutOfMemoryError("CUDA out of memory\nmore")
        return True

    monkeypatch.setattr(steps, "train", failing)
    monkeypatch.setattr(steps, "score", lambda *rest: True)
    said: list[str] = []
    units = [Unit("tiny", name, 0) for name in ("fmit", "umt", "bert-crf")]
    failed = train_all(study, units, (), said.append)
    assert {whose: str(error) for whose, error in failed.items()} == {
        ("tiny", "fmit"): "epoch 1: training diverged",
        ("tiny", "umt"): "the device has too little memory (found CUDA out of memory); "
        "lower batch and max_cells in the dataset's train section",
    }
    assert said[0] == "not run: tiny-fmit-0: epoch 1: training diverged"
    assert said[-1] == "1 runs trained, 1 scored, 2 left out"


def test_a_run_that_cannot_be_crossed_leaves_the_others_to_go_on(study, monkeypatch):
    def failing(study, unit, *rest):
        if unit.dataset == "tiny":
            raise RunError("no readable run")
        return True

    monkeypatch.setattr(steps, "score", failing)
    said: list[str] = []
    failed: steps.Failed = {}
    assert cross_all(study, ("fmit",), said.append, "cpu", failed) == 1
    assert list(failed) == [("tiny", "fmit")]
    assert said[0] == "not scored on tiny-other: tiny-fmit-0: no readable run"


def test_a_failure_is_the_last_word_and_missing_features_are_none():
    command.refuse_failed({("tiny", "umt"): PackError("no grid")})
    failed = {("tiny", "umt"): PackError("no grid"), ("tiny", "fmit"): RunError("training diverged")}
    with pytest.raises(RunError, match=r"1 part\(s\) of the tables failed \(found training diverged\); mend it, then"):
        command.refuse_failed(failed)
