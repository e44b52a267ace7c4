-- Where accounts want to be told of what happens to them, and what is on its way there. Settlement writes a delivery in the
-- transaction that makes what it tells of; a deliverer sends it (gateways/webhooks).

CREATE TABLE webhooks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account bigint NOT NULL REFERENCES accounts,
    url text NOT NULL,
    kinds text[] NOT NULL,
    -- Sealed: gateways and the deliverer can open it.
    secret text NOT NULL,
    created_at bigint NOT NULL,
    removed_at timestamptz
);
CREATE INDEX webhooks_of_account ON webhooks (account, id) WHERE removed_at IS NULL;

-- Ids of events: one for all of an account's webhooks that are told of it.
CREATE SEQUENCE webhook_events;

CREATE TABLE webhook_deliveries (
    webhook bigint NOT NULL REFERENCES webhooks,
    event bigint NOT NULL,
    kind text NOT NULL,
    at bigint NOT NULL,
    body text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'dead')),
    attempts integer NOT NULL DEFAULT 0,
    status integer,
    error text NOT NULL DEFAULT '',
    -- By the database's clock alone: that of the log may run at another speed.
    due_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz,
    PRIMARY KEY (webhook, event),
    CHECK ((done_at IS NULL) = (state = 'waiting'))
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook, due_at, event) WHERE state = 'waiting';
CREATE INDEX webhook_deliveries_done ON webhook_deliveries (done_at) WHERE state <> 'waiting';
