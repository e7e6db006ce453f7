import json
from pathlib import Path

import click
from click.testing import CliRunner

from commands import console


def run(body, *arguments: str, after: tuple[str, ...] = ()):
    @click.group()
    @console.quiet_option
    def root() -> None:
        pass

    root.command("go", cls=console.Examples, example="fmit go")(body)
    return CliRunner().invoke(root, [*arguments, "go", *after])


def test_no_progress_without_a_terminal():
    def body() -> None:
        with console.progress("regions") as bar:
            bar(1, 2)
        click.echo("done")

    result = run(body)
    assert (result.stdout, result.stderr) == ("done\n", "")


def test_long_work_prints_a_line_a_minute_to_a_log(monkeypatch):
    seconds = iter([0.0, 59.0, 60.0, 119.0, 120.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(seconds))

    def body() -> None:
        with console.progress("regions") as bar:
            for done in (1, 2, 3, 4):
                bar(done, 9)

    assert run(body).stderr == "regions: 2 of 9\nregions: 4 of 9\n"
    assert run(body, "--quiet").stderr == ""


def test_notes_go_to_stderr_and_quiet_hides_them():
    def body() -> None:
        console.note("a remark")

    assert run(body).stderr == "a remark\n"
    assert run(body, "--quiet").stderr == ""
    assert run(body, after=("--quiet",)).stderr == ""
    assert run(body, after=("-q",)).stderr == ""


def test_quiet_reaches_progress_on_a_terminal_too(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)

    def body() -> None:
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)  # the runner's own stream
        with console.progress("regions") as bar:
            bar(1, 2)
            click.echo(type(bar).__name__ + str(console.is_set("quiet")))

    assert run(body, after=("-q",)).stderr == ""
    assert "regions" in run(body).stderr


def test_ctrl_c_is_one_line_and_exit_code_130():
    def body() -> None:
        raise KeyboardInterrupt

    result = run(body)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "stopped; no partial output was left; the same command starts over\n"


def test_what_goes_on_says_so():
    @click.command("go", cls=console.Examples, example="fmit go", after=console.RESUMES)
    def body() -> None:
        raise KeyboardInterrupt

    result = CliRunner().invoke(body, [])
    assert result.exit_code == 130
    assert result.stderr == "stopped; finished work is kept; the same command resumes from there\n"


def test_tables_hold_text_as_it_is():
    def body() -> None:
        console.print_table("scores", ("type", "F1"), [("[red]PER", 0.5), ("LOC", 3)])

    lines = [line.split() for line in run(body).stdout.splitlines()]
    assert ["[red]PER", "0.5000"] in lines
    assert ["LOC", "3"] in lines


def test_json_keeps_letters_and_sorts_keys():
    def body() -> None:
        click.get_current_context().meta["fmit.json"] = True
        console.print_result({"b": "Zürich", "a": Path("x")}, "not printed")

    output = run(body).stdout
    assert json.loads(output) == {"a": "x", "b": "Zürich"}
    assert output.index('"a"') < output.index('"b"')
    assert "Zürich" in output
