# SPDX-License-Identifier: Apache-2.0
from benchmarks.rounds import interleave


def test_every_round_measures_all_and_odd_rounds_go_backwards():
    seen = []

    def measure(subject):
        seen.append(subject)
        return len(seen)

    samples = interleave({"a": 1, "b": 2, "c": 3}, 3, measure)
    assert seen == [1, 2, 3, 3, 2, 1, 1, 2, 3]
    assert samples == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}
