-- What becomes of the leases of accounts that read it as it happens (the stream's channel `leases`). Settlement writes a step in
-- the transaction that makes it, numbered for each account without gaps, so that a reader goes on at any gateway.

CREATE TABLE lease_readers (
    account bigint PRIMARY KEY REFERENCES accounts,
    -- What the numbers are of: from 1, since the account first read.
    run text NOT NULL DEFAULT md5(gen_random_uuid()::text),
    number bigint NOT NULL DEFAULT 0
);

CREATE TABLE lease_steps (
    account bigint NOT NULL REFERENCES lease_readers,
    number bigint NOT NULL,
    -- As a webhook tells it.
    body text NOT NULL,
    PRIMARY KEY (account, number)
);

-- Who is to be told what. A batch says this first and holds the lock to its end: so an account that has become a reader under
-- the same lock, alone, misses nothing that is not in the leases yet. The lock comes before the look.
CREATE FUNCTION watched(lock bigint)
RETURNS TABLE (account bigint, has_webhooks boolean, reads_leases boolean)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(lock);
    RETURN QUERY SELECT who.account, bool_or(NOT who.reads), bool_or(who.reads) FROM (
        SELECT webhooks.account, false AS reads FROM webhooks WHERE removed_at IS NULL
        UNION ALL SELECT lease_readers.account, true FROM lease_readers
    ) AS who GROUP BY who.account;
END $$;
