"""Finding restored calls by their names."""

from hypothesis import given
from hypothesis import strategies as st

from processors.unread import Names

NAMES = st.lists(st.integers(0, 2), min_size=4, max_size=4).map(bytes)
"""So few different bytes that names are found again where one ends and the next begins."""


@given(st.lists(NAMES), st.lists(NAMES))
def test_an_id_is_found_once_by_its_name_and_by_no_other(added: list[bytes], asked: list[bytes]) -> None:
    names, held = Names(), dict[bytes, set[bytes]]()
    for number, name in enumerate(added):
        session_id = str(number).encode()
        names.add(name, session_id)
        held.setdefault(name, set()).add(session_id)
    for name in asked:
        found = names.take(name)
        assert len(found) == len(set(found))
        assert set(found) == held.pop(name, set())
    assert all(set(names.take(name)) == expected for name, expected in held.items())
