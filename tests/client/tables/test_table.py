"""The answer to a statement: rows, their names, and what is not in them."""

from __future__ import annotations

import pickle

from tidings import Table


def test_rows() -> None:
    table = Table(("a", "b"), [(1, "x"), (2, None)], ("not all",))
    assert list(table) == [(1, "x"), (2, None)]
    assert len(table) == 2
    assert table.dicts() == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert table.notes == ("not all",)
    assert repr(table) == "<Table of 2 rows: a, b>"


def test_no_rows() -> None:
    assert (list(Table(("a",), [])), Table(("a",), []).dicts(), bool(Table(("a",), []))) == ([], [], False)


def test_of_columns_with_one_name_the_last_stays() -> None:
    assert Table(("a", "a"), [(1, 2)]).dicts() == [{"a": 2}]


def test_it_travels() -> None:
    table = pickle.loads(pickle.dumps(Table(("a",), [(1,)], ("n",))))
    assert (table.columns, table.rows, table.notes) == (("a",), [(1,)], ("n",))
