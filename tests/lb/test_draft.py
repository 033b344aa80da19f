# SPDX-License-Identifier: Apache-2.0
"""A draft is a dict, and changes nothing below it before it is accepted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pycilium.lb.draft import Draft, differing

tables = st.dictionaries(st.integers(0, 9), st.integers(0, 99))
steps = st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 99)))


@given(tables, steps)
def test_a_draft_is_a_dict_over_another(
    base: dict[int, int], changes: list[tuple[int, int | None]]
) -> None:
    draft, model, before = Draft(base), dict(base), dict(base)
    for key, value in changes:
        if value is not None:
            draft[key] = model[key] = value
        else:
            assert draft.pop(key, None) == model.pop(key, None)
        assert draft.get(key) == model.get(key)
    assert dict(draft) == model
    assert len(draft) == len(model)
    assert base == before
    assert draft.accept() is base
    assert base == model


@given(st.data())
def test_what_differs_lies_between_what_is_common(data: st.DataObject) -> None:
    values = st.lists(st.integers(0, 3), max_size=40)
    middle = st.lists(st.integers(0, 3), max_size=3)
    start, end = data.draw(values) * data.draw(st.integers(1, 30)), data.draw(values)
    old, new = (tuple(start + data.draw(middle) + end) for _ in range(2))
    gone, come = differing(old, new)
    first = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), None)
    if old == new:
        assert not gone
        assert not come
        return
    if first is None:
        first = min(len(old), len(new))
    rest = len(old) - first - len(gone)
    assert old[first : first + len(gone)] == gone
    assert new[first : first + len(come)] == come
    assert old[first + len(gone) :] == new[first + len(come) :]
    assert rest == len(new) - first - len(come)
    assert not (gone and come) or (gone[0] != come[0] and gone[-1] != come[-1])
