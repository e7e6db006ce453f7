from schema.errors import DataError, FmitError, ImageError, MissingKeys


def test_a_message_says_what_where_what_was_found_and_what_to_do():
    error = DataError("a label is missing", where="train.txt:3", found="'Rome'", todo="add a tab and a label")
    assert str(error) == "train.txt:3: a label is missing (found 'Rome'); add a tab and a label"
    assert error.fact == "train.txt:3: a label is missing (found 'Rome')"


def test_missing_keys_has_a_readable_message():
    error = MissingKeys(["a", "b", "c", "d"], where="store")
    assert isinstance(error, FmitError)
    assert str(error) == "store: 4 key(s) not in the store (found a, b, c, ...)"


def test_an_image_error_carries_its_outcome():
    assert ImageError("not an image", state="broken").state == "broken"


def test_what_a_post_holds_is_never_quoted_by_the_thousand_characters():
    error = DataError("unknown label", where="a.txt:3", found="x" * 5000, todo="correct it")
    assert len(str(error)) < 600
    assert str(error).endswith("… (5000 characters)); correct it")
    assert error.found == "x" * 5000
    lines = str(DataError("one\n" + "y" * 5000 + "\nthree")).split("\n")
    assert (lines[0], lines[1][-19:], lines[2]) == ("one", "… (5000 characters)", "three")
