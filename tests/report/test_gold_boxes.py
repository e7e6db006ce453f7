import pytest

from report.grounding import Annotations, match, name_key, read_annotations
from schema.errors import DataError
from tests.report.examples import prediction


def xml(*objects, size=(400, 300)):
    """A file in Twitter-GMNER's layout; an object is (name or None, *boxes)."""
    found = []
    for name, *boxes in objects:
        named = "" if name is None else f"<name>{name}</name>"
        corners = "".join(
            "<bndbox>"
            + "".join(f"<{side}>{value}</{side}>" for side, value in zip(SIDES, box, strict=True))
            + "</bndbox>"
            for box in boxes
        )
        found.append(f"<object>{named}<pose>Unspecified</pose><difficult>0</difficult>{corners}</object>")
    width, height = size
    return (
        "<annotation><folder>images</folder><filename>17_06_1.jpg</filename>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>{''.join(found)}</annotation>"
    )


SIDES = ("xmin", "ymin", "xmax", "ymax")


def line(words, gold, image="17_06_1.jpg", id_="1", size=(400, 300), state="ok"):
    entities = [dict(zip(("start", "end", "type"), one, strict=True)) for one in gold]
    images = [{"name": image, "digest": "", "width": size[0], "height": size[1], "state": state}] if image else []
    return prediction(
        {"id": id_, "split": "test", "words": words.split(), "images": images, "gold": entities, "entities": []}
    )


def test_names_with_one_box_several_boxes_and_none(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(
        xml(
            ("Kevin Durant", (1, 2, 30, 40)),
            ("NBA", (5, 5, 9, 9), (0, 0, 4, 4)),
            ("NBA", (1, 1, 2, 2)),
            (None, (0, 0, 1, 1)),
            ("x",),
        )
    )
    assert read_annotations(path) == Annotations(
        {"kevindurant": ((1, 2, 30, 40),), "nba": ((5, 5, 9, 9), (0, 0, 4, 4), (1, 1, 2, 2)), "x": ()},
        {"kevindurant": "Kevin Durant", "nba": "NBA", "x": "x"},
        (400, 300),
        1,
    )


def test_names_are_compared_without_spaces_and_case():
    assert name_key(" Kevin\tDURANT ") == name_key("kevin durant") == "kevindurant"


def test_boxes_of_entities_by_name(tmp_path):
    (tmp_path / "17_06_1.xml").write_text(
        xml(("kevin  durant", (1, 2, 30, 40)), ("Ghost", (0, 0, 5, 5)), (None, (0, 0, 1, 1)))
    )
    one = line("Kevin Durant beats Rome Rome", [(0, 2, "PER"), (3, 4, "LOC"), (4, 5, "LOC")])
    found = match([one], tmp_path)
    person, rome, again = one.gold
    assert found.boxes == {("1", person): ((1, 2, 30, 40),), ("1", rome): (), ("1", again): ()}
    assert (found.n_files, found.n_unmatched, found.n_nameless, found.n_scaled) == (1, 1, 1, 0)


def test_two_entities_of_one_name_share_its_boxes(tmp_path):
    (tmp_path / "17_06_1.xml").write_text(xml(("Rome", (1, 2, 3, 4))))
    one = line("Rome Rome", [(0, 1, "LOC"), (1, 2, "ORG")])
    assert set(match([one], tmp_path).boxes.values()) == {((1, 2, 3, 4),)}


def test_a_file_by_the_posts_id_and_posts_without_one(tmp_path):
    (tmp_path / "77.xml").write_text(xml(("Rome", (1, 2, 3, 4))))
    lines = [line("Rome", [(0, 1, "LOC")], image=None, id_="77"), line("Rome", [(0, 1, "LOC")], id_="78")]
    assert list(match(lines, tmp_path).boxes.values()) == [((1, 2, 3, 4),), ()]
    with pytest.raises(DataError, match="no gold boxes of these posts"):
        match(lines[1:], tmp_path)


def test_boxes_of_an_image_of_another_size_are_scaled(tmp_path):
    (tmp_path / "17_06_1.xml").write_text(xml(("Rome", (10, 10, 20, 30)), size=(100, 100)))
    one = line("Rome", [(0, 1, "LOC")], size=(200, 50))
    found = match([one], tmp_path)
    assert list(found.boxes.values()) == [((20, 5, 40, 15),)]
    assert found.n_scaled == 1
    assert match([line("Rome", [(0, 1, "LOC")], state="missing")], tmp_path).n_scaled == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<annotation>", "a.xml: not XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><annotation/>', "too large or has a document type"),
        (" " * 1_000_001, "too large"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><annotation/>'.encode("utf-16"), "has a document type"),
        (xml(size=("wide", 1)), r"the size is not two numbers \(found wide and 1\)"),
        (xml(size=(1, "inf")), "the size is not two numbers"),
        ("<a><object><name>x</name><bndbox><xmin>1</xmin></bndbox></object></a>", "a box needs four numbers"),
        (xml(("x", (5, 5, 1, 9))), "a box needs xmin <= xmax"),
    ],
)
def test_damaged_files_are_refused(tmp_path, text, said):
    (tmp_path / "a.xml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=said):
        read_annotations(tmp_path / "a.xml")


def test_a_name_cannot_leave_the_folder(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.xml").write_text(xml(("Rome", (1, 2, 3, 4))))
    with pytest.raises(DataError, match="no gold boxes"):
        match([line("Rome", [(0, 1, "LOC")], image="..")], tmp_path / "inside")
