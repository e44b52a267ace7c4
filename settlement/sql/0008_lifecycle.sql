-- Leases that degrade, are reclaimed or end early, and what settlement tells the engine about them.

ALTER TABLE leases
    -- Of the class at the fill: what goes back of the unused rest, in basis points.
    ADD refund_bps integer NOT NULL DEFAULT 10000,
    -- Where the lease ends before its window.
    ADD ends_at bigint,
    -- Of the unused rest, what is billed all the same.
    ADD forfeited_gpu_ms bigint NOT NULL DEFAULT 0,
    -- [[since, until or null, gpus, note], …]: at most one is open, the last.
    ADD degradations jsonb NOT NULL DEFAULT '[]';

-- Commands for the engine, written by the batch that decides on them and gone once the log has them. A crash between
-- sends one twice: the engine remembers each. At most one of a kind for a lease.
CREATE TABLE outbox (
    position bigint NOT NULL,
    fill_index integer NOT NULL,
    kind text NOT NULL,
    partition integer NOT NULL,
    command bytea NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (position, fill_index, kind)
);
CREATE INDEX outbox_in_order ON outbox (created_at, position, fill_index, kind);
