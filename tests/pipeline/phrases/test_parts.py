from pipeline.phrases.parser import joined, ranges


def test_short_sentences_stay_whole():
    assert ranges(["a", "b"], [1, 1], 5, 5) == [(0, 2)]


def test_a_part_ends_behind_a_mark_in_its_second_half():
    words = ["a", ",", "b", "c", ",", "d", "e", "f", "g"]
    assert ranges(words, [1] * 9, 6, 99) == [(0, 5), (5, 9)]


def test_no_word_is_lost_whatever_words_cost():
    words, costs = ["w"] * 50, [7 if k % 9 == 0 else 1 for k in range(50)]
    found = ranges(words, costs, 10, 6)
    assert [at for start, end in found for at in range(start, end)] == list(range(50))
    assert all(sum(costs[start:end]) <= 6 or end - start == 1 for start, end in found)


def test_parts_come_back_in_the_sentences_own_words():
    parsed = joined([(0, 3), (3, 5)], [[(0, 2, "NP")], [(0, 2, "NP")]])
    assert (parsed.spans, parsed.fallback) == (((0, 2, "NP"), (3, 5, "NP")), "split")
    assert joined([(0, 3)], [[]]).fallback == ""
