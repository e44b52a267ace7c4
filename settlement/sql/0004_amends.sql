-- Amends of orders: what each reserves while it is on its way, beyond what its order holds, and what became of it.

CREATE TABLE amends (
    account bigint NOT NULL,
    client_order_id text NOT NULL,
    order_id bigint NOT NULL,
    partition integer NOT NULL,
    command bytea NOT NULL,
    digest bytea NOT NULL,
    not_after bigint NOT NULL,
    status text NOT NULL,
    held bigint NOT NULL CHECK (held >= 0),
    refusal text,
    refusal_args text NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (account, client_order_id)
);
-- One at a time of an order: the engine's answer names the order alone.
CREATE UNIQUE INDEX amends_on_their_way ON amends (order_id) WHERE status = 'sent';
CREATE INDEX amends_due ON amends (partition, not_after) WHERE status = 'sent';
CREATE INDEX amends_holding ON amends (account) WHERE held > 0;

-- An amend's intent and its reserve, once per (account, client_order_id) for ever: `new`, `known` with the amend that is
-- there, `no_funds`, or `busy` where another is on its way, or the order has not these terms any more, or is not open.
CREATE FUNCTION place_amend(intent amends, terms bytea) RETURNS TABLE (answer text, cash bigint, known amends)
LANGUAGE plpgsql AS $$
BEGIN
    IF intent.held > 0 THEN
        PERFORM FROM ledger_accounts WHERE id = 8 * intent.account + 1 FOR NO KEY UPDATE;
    END IF;
    SELECT coalesce(max(balance - reserved), 0) INTO cash FROM ledger_accounts WHERE id = 8 * intent.account + 1;
    SELECT * INTO known FROM amends
        WHERE account = intent.account AND client_order_id = intent.client_order_id;
    IF FOUND THEN
        answer := 'known';
    ELSIF cash < intent.held THEN
        answer := 'no_funds';
    ELSE
        answer := 'busy';
        INSERT INTO amends SELECT intent.* ON CONFLICT DO NOTHING;
        IF FOUND THEN
            -- Only now, as the insert may have waited for settlement to answer the amend before.
            PERFORM FROM orders WHERE account = intent.account AND order_id = intent.order_id
                AND status = 'open' AND command = terms;
            IF FOUND THEN
                answer := 'new';
            ELSE
                DELETE FROM amends WHERE account = intent.account AND client_order_id = intent.client_order_id;
            END IF;
        ELSE
            SELECT * INTO known FROM amends
                WHERE account = intent.account AND client_order_id = intent.client_order_id;
            IF FOUND THEN  -- the same at the same time
                answer := 'known';
            END IF;
        END IF;
        IF answer = 'new' AND intent.held > 0 THEN
            UPDATE ledger_accounts SET reserved = reserved + intent.held WHERE id = 8 * intent.account + 1;
        END IF;
    END IF;
    RETURN NEXT;
END $$;
