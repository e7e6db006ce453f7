from report.posts import is_wrong, sample, select
from tests.report.examples import Maker, prediction


def lines(n, split="test", error_rate=0.3):
    maker = Maker(7)
    return [prediction(maker.post(at, split, error_rate)) for at in range(n)]


def test_everything_is_shown_where_it_fits():
    found = {"test": lines(30), "dev": lines(10, "dev")}
    chosen = select(found, cap=100)
    assert chosen.predictions == (*found["test"], *found["dev"])
    assert chosen.n_wrong == chosen.n_wrong_shown == sum(map(is_wrong, chosen.predictions))
    assert chosen.n_other == chosen.n_other_shown


def test_all_errors_come_before_any_other_post():
    found = {"test": lines(200)}
    n_wrong = sum(map(is_wrong, found["test"]))
    chosen = select(found, cap=n_wrong, n_sample=7)
    assert (chosen.n_wrong_shown, chosen.n_other_shown) == (n_wrong, 7)
    assert [line for line in chosen.predictions if is_wrong(line)] == [line for line in found["test"] if is_wrong(line)]


def test_the_cap_is_kept_and_the_same_posts_are_selected_each_time():
    found = {"test": lines(200, error_rate=1.0)}
    chosen = select(found, cap=50, n_sample=10)
    assert chosen.n_wrong_shown == 50
    assert chosen.n_other_shown <= 10
    assert select({"test": found["test"][::-1]}, cap=50, n_sample=10).predictions == chosen.predictions[::-1]


def test_posts_without_labels_are_no_errors():
    line = prediction(Maker(1).post(0, labelled=False))
    assert not is_wrong(line)


def test_sampled_indices_are_ascending_and_spread():
    ids = [f"post-{at}" for at in range(1000)]
    found = sample(ids, range(1000), 100)
    assert found == sorted(found)
    assert len(found) == 100
    assert 300 < sum(found) / 100 < 700  # no preference for the beginning
