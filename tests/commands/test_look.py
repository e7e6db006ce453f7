import csv


def test_show_prints_words_phrases_and_objects_with_head_and_tail(fmit):
    printed = fmit("show", "test-00000", "--dataset", "own").stdout
    for part in ("test-00000", "normalized words", "noun phrases", "objects of the lattice", "head", "miscellaneous"):
        assert part in printed


def test_show_writes_a_page(fmit, tmp_path):
    page = tmp_path / "post.html"
    assert fmit("show", "test-00000", "--dataset", "own", "--html", page).exit_code == 0
    assert "test-00000" in page.read_text()


def test_show_says_when_there_is_no_such_post(fmit):
    result = fmit("show", "nobody", "--dataset", "own")
    assert result.exit_code == 1
    assert "no post 'nobody'" in result.stderr


def test_a_sheet_holds_the_images(fmit, tmp_path):
    page = tmp_path / "sheet.html"
    assert fmit("sheet", "own", "--out", page).exit_code == 0
    assert "data:image/" in page.read_text()


def test_entities_as_a_table(fmit, trained, tmp_path):
    out = tmp_path / "entities.csv"
    result = fmit("export", "--run", trained.run("own", "fmit", 0), "--out", out)
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert result.stdout.startswith(f"{len(rows)} entities")
    assert rows


def test_redaction_is_for_pages(fmit):
    result = fmit("show", "test-00000", "--dataset", "own", "--redact")
    assert result.exit_code == 2
    assert "--redact is for pages: give --html FILE too" in result.stderr


def test_a_tables_suffix_says_what_is_written(fmit, trained, tmp_path):
    result = fmit("export", "--run", trained.run("own", "fmit", 0), "--out", tmp_path / "entities.xlsx")
    assert result.exit_code == 2
    assert "entities.xlsx' must end in .csv or .json" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_that_nobody_named(fmit, tmp_path):
    for call in (("show", "x", "--dataset", "onw"), ("sheet", "onw", "--out", tmp_path / "sheet.html")):
        result = fmit(*call)
        assert result.exit_code == 1
        assert "no dataset 'onw'" in result.stderr
    assert fmit("sheet", "own", "--out", tmp_path / "sheet.html", "--posts", 0).exit_code == 2
