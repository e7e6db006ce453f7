"""Compare two runs: is the difference more than chance among posts, and where do they differ?"""

from __future__ import annotations

from pathlib import Path

import click

from commands.console import Examples, json_option

folder = click.Path(path_type=Path, file_okay=False)
N_SHOWN = 20  # posts that differ on a terminal; --json and --html have them all


@click.command(cls=Examples, example="fmit compare runs/smoke-fmit-0 runs/smoke-bert-crf-0 --split dev")
@click.argument("first", type=folder)
@click.argument("second", type=folder)
@click.option("--split", help="Posts to compare on.  [default: the first of test, dev, train that both have]")
@click.option("--resamples", "n_resamples", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the resampling.")
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write a page too.")
@click.option("--redact", is_flag=True, help="Hide @names and links on the page.")
@json_option
def compare(
    first: Path,
    second: Path,
    split: str | None,
    n_resamples: int,
    seed: int,
    page: Path | None,
    redact: bool,
    as_json: bool,
) -> None:
    """Say how sure the difference between two runs is.

    A paired bootstrap over posts of the F1 difference of two runs that were scored on the same posts.
    """
    from commands.console import print_json, print_table
    from report import compare

    found = compare.compare_runs(first, second, split, n_resamples=n_resamples, seed=seed)
    if page:
        compare.write_html(found, page, redact=redact)
    if as_json:
        print_json(found.to_json())
        return
    sides = found.bootstrap
    posts = [one.to_json() for one in found.differences[:N_SHOWN]]
    rows = [[one["id"], *("; ".join(one[side]) or "-" for side in ("gold", "first", "second"))] for one in posts]
    if rows:
        print_table("posts that differ", ("post", "gold", "first", "second"), rows)
    if len(found.differences) > N_SHOWN:
        click.echo(f"and {len(found.differences) - N_SHOWN} more: --json or --html lists them all")
    better = [sum(one.better == side for one in found.differences) for side in (1, 2)]
    click.echo(
        f"{len(found.differences)} of {sides.n_posts} posts differ: the first has fewer errors in {better[0]}, "
        f"the second in {better[1]}"
    )
    click.echo(
        f"{found.split} F1 {sides.first_f1:.4f} against {sides.second_f1:.4f}: difference {sides.difference:+.4f}, "
        f"95% interval {sides.low:+.4f} to {sides.high:+.4f}, p = {sides.p:.4f}"
        + (", synthetic parts" if found.synthetic else "")
    )
    if page:
        click.echo(f"open {page}")


COMMANDS = (compare,)
