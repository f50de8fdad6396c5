"""The tables of control.db, as text; runs nothing."""

from __future__ import annotations

SCHEMA_VERSION = 3

DDL = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;

-- `changed` grows with every change of a topic or its levels, so that others read only what they have not seen
CREATE TABLE topics (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    options TEXT NOT NULL,
    changed INTEGER NOT NULL
) STRICT;
CREATE INDEX topics_changed ON topics (changed);

-- each priority that a topic has been published with has a shard for each partition, numbered in a row. Shards are
-- numbered through the whole bus, never again after a drop
CREATE TABLE levels (
    topic_id INTEGER NOT NULL, priority INTEGER NOT NULL, first_shard INTEGER NOT NULL, PRIMARY KEY (topic_id, priority)
) STRICT, WITHOUT ROWID;

-- every schema that a topic has had; NULL from when it had none any more
CREATE TABLE schemas (
    topic_id INTEGER NOT NULL, version INTEGER NOT NULL, text TEXT, since REAL NOT NULL,
    PRIMARY KEY (topic_id, version)
) STRICT, WITHOUT ROWID;

-- `filter` is what its messages have to match, as stored by the model; NULL for all
CREATE TABLE groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, filter TEXT
) STRICT;

CREATE TABLE bindings (
    group_id INTEGER NOT NULL, pattern TEXT NOT NULL, PRIMARY KEY (group_id, pattern)
) STRICT, WITHOUT ROWID;

-- a shard without a cursor is one that appeared after the binding: it is read from offset 0. The counts are totals;
-- the `mark` of a count is its value at `marked`, the `past` one at the mark before: rates are taken from there
CREATE TABLE cursors (
    group_id INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    next INTEGER NOT NULL,
    acked INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    filtered INTEGER NOT NULL DEFAULT 0,
    redelivered INTEGER NOT NULL DEFAULT 0,
    acked_mark INTEGER NOT NULL DEFAULT 0,
    failed_mark INTEGER NOT NULL DEFAULT 0,
    marked REAL NOT NULL DEFAULT 0,
    acked_past INTEGER NOT NULL DEFAULT 0,
    failed_past INTEGER NOT NULL DEFAULT 0,
    past REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (group_id, shard)
) STRICT, WITHOUT ROWID;

-- what was claimed and not settled. Whoever comes when `due` has passed may claim it: for a leased range that is when
-- the lease ends, for a free one (no consumer) when it is to be tried again. `attempt` counts the deliveries so far.
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

-- attached subscriptions (a temporary one has no group); `slot` is the lock that their process holds while it lives.
-- `until` is when an ordering consumer that does not renew loses its partitions, `homes` the ones that it reads; `got`,
-- written now and then, is when it got a message (wall time); with `rides` it has read everything unless `places` says
-- otherwise
CREATE TABLE consumers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id INTEGER,
    name TEXT NOT NULL,
    slot INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    patterns TEXT NOT NULL,
    ordering INTEGER NOT NULL,
    homes TEXT NOT NULL DEFAULT '[]',
    since REAL NOT NULL,
    until REAL NOT NULL,
    got REAL,
    rides INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX consumers_group ON consumers (group_id);
CREATE INDEX consumers_slot ON consumers (slot);

-- how far temporary subscriptions have read, written now and then: -1 is everything. One without a place has read
-- nothing since it came
CREATE TABLE places (
    consumer INTEGER NOT NULL, shard INTEGER NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (consumer, shard)
) STRICT, WITHOUT ROWID;

-- which consumer of an ordering group reads a partition, named by the number of its shard of normal priority
CREATE TABLE assignments (
    group_id INTEGER NOT NULL, partition INTEGER NOT NULL, consumer INTEGER NOT NULL, PRIMARY KEY (group_id, partition)
) STRICT, WITHOUT ROWID;

-- messages on their way into a log: scheduled ones, outputs of transactions, dead letters. `due` is wall time. Who
-- moves one says so first: `mover` is its slot, `shard` where to, and `floor` an offset below which it cannot be there
CREATE TABLE staged (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    message_id TEXT NOT NULL,
    priority INTEGER NOT NULL,
    record BLOB NOT NULL,
    due REAL NOT NULL,
    mover INTEGER,
    shard INTEGER,
    floor INTEGER
) STRICT;
CREATE INDEX staged_due ON staged (due) WHERE mover IS NULL;
CREATE INDEX staged_message ON staged (topic, message_id);
"""
