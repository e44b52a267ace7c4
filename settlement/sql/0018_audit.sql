-- The audit that goes on while the exchange runs: how far it is, what it has counted itself, and what it found. Written by
-- the auditor alone (settlement/auditor.py); nothing else depends on it, and emptied it begins anew.

CREATE TABLE audit_standing (
    id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    -- Counted up to here, and the digest of all of them.
    transaction bigint NOT NULL DEFAULT 0,
    digest bytea NOT NULL DEFAULT '',
    behind bigint NOT NULL DEFAULT 0,
    round_at timestamptz,
    -- Looking at everything once more, in order of ids: the how manyth time, and how far.
    sweep bigint NOT NULL DEFAULT 1,
    swept_transaction bigint NOT NULL DEFAULT 0,
    swept_lease bigint NOT NULL DEFAULT 0,
    swept_order bigint NOT NULL DEFAULT -1,
    swept_ledger_account bigint NOT NULL DEFAULT -9223372036854775808,
    swept_at timestamptz
);
INSERT INTO audit_standing DEFAULT VALUES;

-- How far the fills of each partition of executions are compared with leases, the first time and once more.
CREATE TABLE audit_partitions (
    partition integer PRIMARY KEY,
    next_offset bigint NOT NULL,
    position bigint NOT NULL,
    swept_offset bigint NOT NULL,
    swept_position bigint NOT NULL
);

-- The sum of the entries of each ledger account, and of those that name a lease, of its supplier's and the exchange's.
CREATE TABLE audit_sums (
    ledger_account bigint PRIMARY KEY,
    posted bigint NOT NULL
) WITH (fillfactor = 70);
CREATE TABLE audit_lease_sums (
    position bigint NOT NULL,
    fill_index integer NOT NULL,
    earned bigint NOT NULL,
    revenue bigint NOT NULL,
    PRIMARY KEY (position, fill_index)
) WITH (fillfactor = 70);

-- The digest of the ledger before and after each stretch of transactions: who changes one later is found out.
CREATE TABLE audit_blocks (
    last bigint PRIMARY KEY,
    first bigint NOT NULL,
    digest_before bytea NOT NULL,
    digest bytea NOT NULL
);

CREATE TABLE audit_findings (
    rule text NOT NULL,
    what text NOT NULL,
    found text NOT NULL,
    expected text NOT NULL,
    -- In which it was last seen: gone after one that did not see it.
    sweep bigint NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rule, what)
);
