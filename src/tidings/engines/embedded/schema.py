"""The tables of control.db, as text; runs nothing."""

from __future__ import annotations

SCHEMA_VERSION = 1

DDL = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;

-- shards are numbered through the whole bus, never again after a drop; a topic has as many in a row as partitions
CREATE TABLE topics (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    options TEXT NOT NULL,
    first_shard INTEGER NOT NULL
) STRICT;

CREATE TABLE groups (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE bindings (
    group_id INTEGER NOT NULL, pattern TEXT NOT NULL, PRIMARY KEY (group_id, pattern)
) STRICT, WITHOUT ROWID;

-- a shard without a cursor is one that appeared after the binding: it is read from offset 0
CREATE TABLE cursors (
    group_id INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    next INTEGER NOT NULL,
    skipped INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (group_id, shard)
) STRICT, WITHOUT ROWID;

-- what was claimed and not acked. Whoever comes when `due` has passed may claim it: for a leased range that is when the
-- lease ends, for a free one (no consumer) when it is to be tried again. `attempt` counts the deliveries so far.
CREATE TABLE pending (
    id INTEGER PRIMARY KEY,
    group_id INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    due REAL NOT NULL,
    consumer INTEGER,
    lease INTEGER NOT NULL
) STRICT;
CREATE INDEX pending_due ON pending (group_id, due);
CREATE INDEX pending_place ON pending (group_id, shard, first);
CREATE INDEX pending_consumer ON pending (consumer) WHERE consumer IS NOT NULL;

-- attached consumers; `slot` is the lock that their process holds while it lives
CREATE TABLE consumers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    slot INTEGER NOT NULL,
    pid INTEGER NOT NULL
) STRICT;
"""
