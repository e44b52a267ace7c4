-- What a delivery says: which GPUs, and what shows that they can be reached. How leases go on: extensions, renewals. The
-- SSH keys that machines are to let in.

CREATE EXTENSION IF NOT EXISTS btree_gist;

-- The GPUs that a lease has and when, as its supplier names them: never two leases one GPU at one time.
CREATE TABLE lease_gpus (
    position bigint NOT NULL,
    fill_index integer NOT NULL,
    seller bigint NOT NULL,
    gpu text NOT NULL,
    during int8range NOT NULL CHECK (NOT isempty(during)),
    PRIMARY KEY (position, fill_index, gpu),
    CONSTRAINT one_lease_a_gpu EXCLUDE USING gist (seller WITH =, gpu WITH =, during WITH &&)
);

ALTER TABLE leases
    -- The supplier's: what shows that the machines can be reached.
    ADD proof text NOT NULL DEFAULT '',
    -- The lease with which it goes on, on the same machines.
    ADD next_position bigint,
    ADD next_index integer,
    -- JSON of how it is renewed; '' is not at all.
    ADD renewal text NOT NULL DEFAULT '';

-- SSH public keys of an account, by its own names for them.
CREATE TABLE ssh_keys (
    account bigint NOT NULL REFERENCES accounts,
    name text NOT NULL,
    public_key text NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (account, name)
);

-- The SSH public key that a bid's machines are to let in, as it was when the bid was placed.
ALTER TABLE orders ADD ssh_key text NOT NULL DEFAULT '';
