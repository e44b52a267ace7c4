-- Classes, orders with their holds, leases with their usage, and how far the log has been applied.

CREATE TABLE classes (
    class_id text PRIMARY KEY,
    partition integer NOT NULL,
    spec bytea NOT NULL
);

CREATE TABLE orders (
    account bigint NOT NULL,
    client_order_id text NOT NULL,
    order_id bigint UNIQUE,
    side smallint NOT NULL,
    class_id text NOT NULL,
    partition integer NOT NULL,
    command bytea NOT NULL,
    digest bytea NOT NULL,
    not_after bigint NOT NULL,
    status text NOT NULL,
    price bigint NOT NULL,
    duration bigint NOT NULL,
    fee_bps integer NOT NULL,
    filled bigint NOT NULL,
    remaining bigint NOT NULL,
    held bigint NOT NULL CHECK (held >= 0),
    reason text NOT NULL,
    refusal text,
    refusal_args text NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (account, client_order_id)
);
CREATE INDEX orders_of_account ON orders (account, order_id) WHERE order_id IS NOT NULL;
CREATE INDEX orders_on_their_way ON orders (partition, not_after) WHERE status = 'sent';
CREATE INDEX orders_holding ON orders (account) WHERE held > 0;

CREATE TABLE leases (
    position bigint NOT NULL,
    fill_index integer NOT NULL,
    number bigint NOT NULL UNIQUE,
    partition integer NOT NULL,
    class_id text NOT NULL,
    bid_id bigint NOT NULL,
    ask_id bigint NOT NULL,
    buyer bigint NOT NULL,
    seller bigint NOT NULL,
    price bigint NOT NULL,
    quantity integer NOT NULL,
    start_at bigint NOT NULL,
    end_at bigint NOT NULL,
    buyer_fee_bps integer NOT NULL,
    seller_fee_bps integer NOT NULL,
    attributes bytea NOT NULL,
    acceptance_ms bigint NOT NULL,
    grace_ms bigint NOT NULL,
    deliver_by bigint NOT NULL,
    created_at bigint NOT NULL,
    state text NOT NULL,
    close_reason text NOT NULL,
    delivered_at bigint,
    accepted_at bigint,
    closed_at bigint,
    deadline bigint,
    connection text NOT NULL,
    last_sequence bigint NOT NULL,
    used_gpu_ms bigint NOT NULL,
    charged bigint NOT NULL,
    earned bigint NOT NULL,
    PRIMARY KEY (position, fill_index)
);
CREATE INDEX leases_bought ON leases (buyer, position, fill_index);
CREATE INDEX leases_sold ON leases (seller, position, fill_index);
CREATE INDEX leases_due ON leases (partition, deadline, position, fill_index) WHERE deadline IS NOT NULL;
CREATE INDEX leases_open ON leases (buyer) WHERE state <> 'closed';

CREATE TABLE usage (
    position bigint NOT NULL,
    fill_index integer NOT NULL,
    sequence bigint NOT NULL,
    gpu_ms bigint NOT NULL,
    final boolean NOT NULL,
    reported_at bigint NOT NULL,
    PRIMARY KEY (position, fill_index, sequence)
);

-- How far each partition of each topic has been applied. `position` and `time` are of the last execution applied there,
-- or, of the other topics, -1 and the largest record time.
CREATE TABLE positions (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    position bigint NOT NULL,
    time bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);

-- The order in which the records of all topics were applied: a replay follows it. `first_offset` above `last_offset`
-- where only deadlines passed.
CREATE TABLE journal (
    seq bigint PRIMARY KEY,
    topic text NOT NULL,
    partition integer NOT NULL,
    first_offset bigint NOT NULL,
    last_offset bigint NOT NULL
);

-- Records of `instructions` and `usage` that were refused; those not here, up to the position, had their effect.
CREATE TABLE refusals (
    topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    code text NOT NULL,
    args text NOT NULL,
    PRIMARY KEY (topic, partition, record_offset)
);

-- An intent and its hold, once per (account, client_order_id) for ever: `new`, `known` with the order that is there, or
-- `no_funds` with nothing written. One round trip, one commit, any number at once.
CREATE FUNCTION place_intent(intent orders) RETURNS TABLE (answer text, cash bigint, known orders)
LANGUAGE plpgsql AS $$
DECLARE
    added bigint;
BEGIN
    -- The lock first: intents that take from the same cash then see each other's work.
    IF intent.held > 0 THEN
        PERFORM FROM ledger_accounts WHERE id = 8 * intent.account + 1 FOR NO KEY UPDATE;
    END IF;
    SELECT coalesce(max(balance), 0) INTO cash FROM ledger_accounts WHERE id = 8 * intent.account + 1;
    SELECT * INTO known FROM orders
        WHERE account = intent.account AND client_order_id = intent.client_order_id;
    IF FOUND THEN
        answer := 'known';
    ELSIF cash < intent.held THEN
        answer := 'no_funds';
    ELSE
        INSERT INTO orders SELECT intent.*;
        IF intent.held > 0 THEN
            INSERT INTO transactions (reference, time)
                VALUES (format('hold:%s:%s', intent.account, intent.client_order_id), intent.created_at)
                RETURNING id INTO added;
            INSERT INTO entries VALUES
                (added, 8 * intent.account + 1, -intent.held), (added, 8 * intent.account + 2, intent.held);
        END IF;
        answer := 'new';
    END IF;
    RETURN NEXT;
END $$;
