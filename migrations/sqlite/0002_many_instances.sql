-- Many instances over one database, moving house, and history by the month.

-- The installation as a whole: one row, written at the first start.
CREATE TABLE house (
    name         TEXT NOT NULL PRIMARY KEY CHECK (name IN ('handover')),
    installation BLOB NOT NULL,         -- drawn once; kept by whatever is restored or copied from it
    epoch        BLOB NOT NULL,         -- drawn anew with each restore and each move
    beat         INTEGER NOT NULL,      -- counted up by whoever leads: who remembers a higher one has seen more than this database
    server       TEXT,                  -- which server it lay on: its identity and its line of history; absent for a file
    state        TEXT NOT NULL CHECK (state IN ('open', 'checking', 'sealed')),
    why          TEXT,                  -- why it is not open
    restored_at  TEXT,                  -- what happened before this may have been answered by what a restore forgot
    changed_at   TEXT NOT NULL,
    former       TEXT NOT NULL DEFAULT '[]' -- the epochs before this one: who remembers one of them has seen less
) STRICT;

-- Who may do what only one may do at a time. The term counts the holders, and fences what they write.
CREATE TABLE leases (
    name   TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,               -- an instance
    term   INTEGER NOT NULL,
    until  TEXT NOT NULL                -- on the database's clock
) STRICT;

-- How fast all instances together may call Graph. Times are on the database's clock.
CREATE TABLE paces (
    lane         TEXT NOT NULL PRIMARY KEY CHECK (lane IN ('write', 'read')),
    next_at      TEXT NOT NULL,         -- when the next call would leave if nothing had been saved up
    closed_until TEXT,                  -- nobody calls before this
    throttled    INTEGER NOT NULL,      -- answers 429 in a row
    stretch      INTEGER NOT NULL       -- the gap between two calls, in thousandths of the configured one
) STRICT;

-- The instances that run, or ran.
CREATE TABLE instances (
    id         TEXT NOT NULL PRIMARY KEY, -- as leases and attempts name it
    host       TEXT NOT NULL,
    version    TEXT NOT NULL,
    started_at TEXT NOT NULL,
    seen_at    TEXT NOT NULL            -- on the database's clock
) STRICT;

-- How far a copy of another database into this one has come.
CREATE TABLE copies (
    part        TEXT NOT NULL PRIMARY KEY, -- a table
    position    TEXT,                   -- the last key taken in
    rows        INTEGER NOT NULL,
    digest      BLOB,                   -- over all rows, once it is complete
    finished_at TEXT
) STRICT;

-- The fold's state where events were dropped for their age: what is left is folded from it.
ALTER TABLE devices ADD COLUMN origin TEXT;
ALTER TABLE devices ADD COLUMN origin_at TEXT;

-- Only a look that a whole sweep asked for, because it did not list the device, can find that it is gone.
ALTER TABLE looks ADD COLUMN unlisted INTEGER NOT NULL DEFAULT FALSE;

-- What was folded while its account was being decided elsewhere is found by this.
CREATE INDEX custodies_unknown ON custodies (account_id, started_at) WHERE holder = 'unknown' AND account_id IS NOT NULL;

-- A custody that lasted for more than a day may reach into a moment long after it began: those few are found by themselves.
CREATE INDEX custodies_long_by_person ON custodies (person_id, started_at, id)
    WHERE person_id IS NOT NULL AND julianday(ended_at) - julianday(started_at) > 1.0;

-- What is open now is found by the device that has it: the index over all custodies changed with every hand-over.
DROP INDEX custodies_open_by_person;
