from pipeline.phrases.parser import parse_in_parts, ranges


def test_short_sentences_stay_whole():
    assert ranges(["a", "b"], [1, 1], 5, 5) == [(0, 2)]


def test_a_part_ends_after_a_mark_in_its_second_half():
    words = ["a", ",", "b", "c", ",", "d", "e", "f", "g"]
    assert ranges(words, [1] * 9, 6, 99) == [(0, 5), (5, 9)]


def test_no_word_is_lost_whatever_words_cost():
    words, costs = ["w"] * 50, [7 if k % 9 == 0 else 1 for k in range(50)]
    found = ranges(words, costs, 10, 6)
    assert [at for start, end in found for at in range(start, end)] == list(range(50))
    assert all(sum(costs[start:end]) <= 6 or end - start == 1 for start, end in found)


def test_parts_come_back_in_the_sentences_own_words():
    parts = []

    def parse(found):
        parts.extend(found)
        return [[(0, 1, "NP")] if "c" not in words else [] for words in found]

    long, short = parse_in_parts([["a", "b", ",", "d", "e"], ["c"]], parse, 3)
    assert parts == [["a", "b", ","], ["d", "e"], ["c"]]
    assert (long.spans, long.fallback) == (((0, 1, "NP"), (3, 4, "NP")), "split")
    assert (short.spans, short.fallback) == ((), "")
