"""Forward passes on a CPU, several at once: unlike the threads of one pass, they do not wait for each other."""

from collections.abc import Callable, Iterable, Iterator
from operator import length_hint

import torch

from pipeline.engine import Item, Result, prefetch


def run_passes(work: Callable[[Item], Result], items: Iterable[Item], n_max: int) -> Iterator[Result]:
    """`work` of every item, in order; at most `n_max` at once, each with its share of torch's threads."""
    n_threads = torch.get_num_threads()
    n = min(n_max, n_threads, length_hint(items, n_max))
    if n < 2:
        yield from map(work, items)
        return

    def with_its_share(item: Item) -> Result:
        torch.get_num_threads()  # the first use of torch in a thread would replace its number by the process's
        torch.set_num_threads(n_threads // n)  # of this thread, but also the default of threads that start from now on
        try:
            return work(item)
        finally:
            torch.set_num_threads(n_threads)

    yield from prefetch(with_its_share, items, n)
