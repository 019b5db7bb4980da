-- Many instances over one database, moving house, and history by the month.

-- Instances of the release before go on working meanwhile. In the order in which a deed takes them, so that nobody waits for
-- each other in a ring. Whoever reads or writes queues behind a lock that is waited for: so it is not waited for long, and the
-- migration is begun again.
SET LOCAL lock_timeout = '5s';
LOCK TABLE devices, events, custodies, looks, audit IN ACCESS EXCLUSIVE MODE;

-- The installation as a whole: one row, written at the first start.
CREATE TABLE house (
    name         text NOT NULL PRIMARY KEY CHECK (name IN ('handover')),
    installation uuid NOT NULL,         -- drawn once; kept by whatever is restored or copied from it
    epoch        uuid NOT NULL,         -- drawn anew with each restore and each move
    beat         bigint NOT NULL,      -- counted up by whoever leads: who remembers a higher one has seen more than this database
    server       text,                  -- which server it lay on: its identity and its line of history; absent for a file
    state        text NOT NULL CHECK (state IN ('open', 'checking', 'sealed')),
    why          text,                  -- why it is not open
    restored_at  timestamptz,                  -- what happened before this may have been answered by what a restore forgot
    changed_at   timestamptz NOT NULL,
    former       jsonb NOT NULL DEFAULT '[]' -- the epochs before this one: who remembers one of them has seen less
);

-- Who may do what only one may do at a time. The term counts the holders, and fences what they write.
CREATE TABLE leases (
    name   text NOT NULL PRIMARY KEY,
    holder text NOT NULL,               -- an instance
    term   bigint NOT NULL,
    until  timestamptz NOT NULL                -- on the database's clock
);

-- How fast all instances together may call Graph. Times are on the database's clock.
CREATE TABLE paces (
    lane         text NOT NULL PRIMARY KEY CHECK (lane IN ('write', 'read')),
    next_at      timestamptz NOT NULL,         -- when the next call would leave if nothing had been saved up
    closed_until timestamptz,                  -- nobody calls before this
    throttled    bigint NOT NULL,      -- answers 429 in a row
    stretch      bigint NOT NULL       -- the gap between two calls, in thousandths of the configured one
);

-- The instances that run, or ran.
CREATE TABLE instances (
    id         text NOT NULL PRIMARY KEY, -- as leases and attempts name it
    host       text NOT NULL,
    version    text NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL            -- on the database's clock
);

-- How far a copy of another database into this one has come.
CREATE TABLE copies (
    part        text NOT NULL PRIMARY KEY, -- a table
    position    text,                   -- the last key taken in
    rows        bigint NOT NULL,
    digest      bytea,                   -- over all rows, once it is complete
    finished_at timestamptz
);

-- The fold's state where events were dropped for their age: what is left is folded from it.
ALTER TABLE devices ADD COLUMN origin jsonb;
ALTER TABLE devices ADD COLUMN origin_at timestamptz;

-- Only a look that a whole sweep asked for, because it did not list the device, can find that it is gone.
ALTER TABLE looks ADD COLUMN unlisted boolean NOT NULL DEFAULT FALSE;

-- Events and audit entries lie by the month that their ids begin with, so that a month can be dropped at once. Months are
-- added by housekeeping; what fits into none, and what the first schema held, lies in `events_rest` and `audit_rest`.
DROP INDEX events_by_device;
DROP INDEX events_too_late;
DROP INDEX events_by_account;
DROP INDEX audit_by_time;
DROP INDEX audit_by_device;
DROP INDEX audit_by_person;
ALTER TABLE events RENAME TO events_before;
ALTER TABLE events_before DROP CONSTRAINT events_pkey;
ALTER TABLE audit RENAME TO audit_before;
ALTER TABLE audit_before DROP CONSTRAINT audit_pkey;

-- What a source said, for good. Never changed but for `disposition` and `oddity`, which a fold may set.
CREATE TABLE events (
    id           uuid NOT NULL PRIMARY KEY, -- derived from what it says, its own time first: the same event twice is one row
    device_id    uuid NOT NULL,
    source       text NOT NULL,
    class        text NOT NULL,
    kind         bigint,                   -- the vendor's number of the kind of event
    label        text,                  -- the vendor's name of it
    what         text NOT NULL CHECK (what IN ('with', 'enrolled', 'nameless', 'gone', 'erased', 'silent')),
    how          text NOT NULL CHECK (how IN ('told', 'read')),
    account_id   uuid,
    occurred_at  timestamptz,                  -- the source's own time, as it said it
    at           timestamptz NOT NULL,         -- the ordering time
    received_at  timestamptz NOT NULL,
    disposition  text NOT NULL CHECK (disposition IN ('folded', 'too_late')),
    oddity       text,
    content_type text,
    raw          bytea NOT NULL
) PARTITION BY RANGE (id);
-- Events that fit into no month yet.
CREATE TABLE events_rest PARTITION OF events DEFAULT;

-- What was done, by whom. Written in the transaction of the deed.
CREATE TABLE audit (
    id        uuid NOT NULL PRIMARY KEY,
    at        timestamptz NOT NULL,
    actor     text NOT NULL,            -- a source, 'handover', or a token's name
    action    text NOT NULL,
    device_id uuid,
    person_id uuid,
    subject   uuid,                     -- the event, revocation, attempt, account or token it is about
    detail    jsonb NOT NULL
) PARTITION BY RANGE (id);
-- Entries that fit into no month yet.
CREATE TABLE audit_rest PARTITION OF audit DEFAULT;

INSERT INTO events (id, device_id, source, class, kind, label, what, how, account_id, occurred_at, at, received_at,
        disposition, oddity, content_type, raw)
    SELECT id, device_id, source, class, kind, label, what, how, account_id, occurred_at, at, received_at,
        disposition, oddity, content_type, raw FROM events_before;
INSERT INTO audit (id, at, actor, action, device_id, person_id, subject, detail)
    SELECT id, at, actor, action, device_id, person_id, subject, detail FROM audit_before;
DROP TABLE events_before;
DROP TABLE audit_before;

CREATE INDEX events_by_device ON events (device_id, at, id);
-- What came later than the fold can take in is counted and shown.
CREATE INDEX events_too_late ON events (received_at, id) WHERE disposition = 'too_late';
CREATE INDEX events_by_account ON events (account_id, at) WHERE account_id IS NOT NULL;
CREATE INDEX audit_by_time ON audit (at, id);
CREATE INDEX audit_by_device ON audit (device_id, at, id) WHERE device_id IS NOT NULL;
CREATE INDEX audit_by_person ON audit (person_id, at, id) WHERE person_id IS NOT NULL;

-- What was folded while its account was being decided elsewhere is found by this.
CREATE INDEX custodies_unknown ON custodies (account_id, started_at) WHERE holder = 'unknown' AND account_id IS NOT NULL;

-- A custody that lasted for more than a day may reach into a moment long after it began: those few are found by themselves.
CREATE INDEX custodies_long_by_person ON custodies (person_id, started_at, id)
    WHERE person_id IS NOT NULL AND ended_at - started_at > INTERVAL '1 day';

-- What is open now is found by the device that has it: the index over all custodies changed with every hand-over, and kept
-- the row that ends from being rewritten in its place.
DROP INDEX custodies_open_by_person;
ALTER TABLE custodies SET (fillfactor = 90);
