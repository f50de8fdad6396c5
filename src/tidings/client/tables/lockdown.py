"""An SQLite connection that can only answer: no writes, no files, no settings, and bounds on what it is asked."""

from __future__ import annotations

from collections.abc import Collection

import apsw

VALUE_BYTES = 16 * 1024 * 1024
"""One text or blob, and one row of a result: twice the largest message. `printf('%.*c', 1e9, 'x')` ends here before it
has any memory."""

STATEMENT_BYTES = 64 * 1024
"""The text of one SELECT: as long as a thousand lines."""

RESULT_COLUMNS = 100
"""Columns of a result, unless a table has more: what fits no screen and no report. With `VALUE_BYTES` it bounds what a
single row can take, which nobody looks at while it is made."""

_LIMITS = {
    apsw.SQLITE_LIMIT_LENGTH: VALUE_BYTES,
    apsw.SQLITE_LIMIT_SQL_LENGTH: STATEMENT_BYTES,
    apsw.SQLITE_LIMIT_EXPR_DEPTH: 200,  # the parts of a long `OR` count
    apsw.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    apsw.SQLITE_LIMIT_VDBE_OP: 250_000,  # SQLite's own name for how long the compiled statement may be
    apsw.SQLITE_LIMIT_FUNCTION_ARG: 127,  # what every SQLite can take
    apsw.SQLITE_LIMIT_ATTACHED: 0,  # beyond what is attached already
    apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,  # matching takes the square of it
    apsw.SQLITE_LIMIT_VARIABLE_NUMBER: 1000,
    apsw.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}

_NAMES = """
abs char coalesce concat concat_ws format glob hex if ifnull iif instr length like likelihood likely lower ltrim max min
nullif octet_length printf quote random replace round rtrim sign substr substring trim typeof unhex unicode unlikely
upper

date datetime julianday strftime time timediff unixepoch current_date current_time current_timestamp

avg count group_concat median percentile percentile_cont percentile_disc string_agg sum total

cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number

acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod pi pow power
radians sin sinh sqrt tan tanh trunc

-> ->> json json_array json_array_length json_error_position json_extract json_group_array json_group_object
json_insert json_object json_patch json_pretty json_quote json_remove json_replace json_set json_type json_valid jsonb
jsonb_array jsonb_extract jsonb_group_array jsonb_group_object jsonb_insert jsonb_object jsonb_patch jsonb_remove
jsonb_replace jsonb_set
"""

FUNCTIONS = frozenset(_NAMES.split())
"""The functions that a query may call: they compute, and touch nothing."""

_TABLE_FUNCTIONS = ("json_each", "json_tree", "jsonb_each", "jsonb_tree")


class Warden:
    """Says to SQLite what it may do for a statement. `denied` is what was asked for besides.

    `readable` are the tables, each with the name of its database.
    """

    def __init__(self, readable: Collection[tuple[str, str]]) -> None:
        self.readable = readable
        self.denied = ""

    def __call__(self, action: int, one: str | None, two: str | None, database: str | None, trigger: str | None) -> int:
        """The authorizer. What `one` and `two` are depends on the action."""
        if self._allows(action, one, two, database):
            return apsw.SQLITE_OK
        named = {apsw.SQLITE_READ: f"the table {one}", apsw.SQLITE_FUNCTION: f"the function {two}()"}
        verb = str(apsw.mapping_authorizer_function[action]).removeprefix("SQLITE_").replace("_", " ")
        self.denied = named.get(action, verb)
        return apsw.SQLITE_DENY

    def _allows(self, action: int, one: str | None, two: str | None, database: str | None) -> bool:
        if action == apsw.SQLITE_READ:  # of no column: a name that WITH gives, or what `count(*)` counts
            return (database, one) in self.readable or one in _TABLE_FUNCTIONS or (two == "" and database is None)
        if action == apsw.SQLITE_FUNCTION:
            return two in FUNCTIONS
        return action in (apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE)


def lock(connection: apsw.Connection, warden: Warden, columns: int) -> None:
    """Let the connection read from now on what the warden allows, and do nothing else. `columns`: of the widest
    table."""
    connection.execute("PRAGMA temp_store = memory")  # sorting writes no files
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)  # "total" is a column, or an error; never a text
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
    for limit, value in _LIMITS.items():
        connection.limit(limit, value)
    connection.limit(apsw.SQLITE_LIMIT_COLUMN, max(RESULT_COLUMNS, columns))
    connection.authorizer = warden
