"""The size report counts what it says, and the product stays within its limits."""

import ast

import pytest

from tests.size import MAX_BODY, MAX_LINES, MAX_MODULES, body_length, cycles, is_single, measure, report


@pytest.fixture(scope="module")
def size():
    return measure()


def test_a_body_is_counted_without_head_and_docstring():
    text = (
        'def f(\n    a: int,\n) -> int:\n    """One.\n\n    Two.\n    """\n    b = (\n        a\n    )\n\n    return b'
    )
    assert body_length(ast.parse(text).body[0]) == 5
    assert body_length(ast.parse('def f():\n    """Only text."""').body[0]) == 0
    assert body_length(ast.parse("def f(): return 1").body[0]) == 1


def test_modules_with_one_function_only():
    assert is_single(ast.parse("import os\nN = 1\ndef f(): pass"))
    assert not is_single(ast.parse("class A: pass"))
    assert not is_single(ast.parse("def f(): pass\ndef g(): pass"))


def test_cycles_are_found_once():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"d"}}
    assert list(cycles(graph)) == [("a", "b", "c")]
    assert list(cycles({"a": {"b"}, "b": set()})) == []


def test_function_bodies_are_short(size):
    assert all(value <= MAX_BODY[name] for name, value in size.body.items()), report(size)


def test_the_product_is_small(size):
    assert size.n_lines <= MAX_LINES, report(size)
    assert size.n_modules <= MAX_MODULES, report(size)


def test_modules_do_not_import_each_other(size):
    assert not size.cycles, report(size)
