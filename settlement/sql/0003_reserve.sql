-- A gateway no longer posts a hold: it reserves cash on the account's own row, in one update, and settlement posts the
-- hold once the engine has answered. All entries then come from the log, in its order, and an order enters with three
-- statements in place of nine.

ALTER TABLE ledger_accounts ADD COLUMN reserved bigint NOT NULL DEFAULT 0;

-- What was held for orders without an answer is reserved from now on.
WITH sent AS (
    SELECT format('reserve:%s:%s', account, client_order_id) AS reference, account, held, created_at
    FROM orders WHERE status = 'sent' AND held > 0
), made AS (
    INSERT INTO transactions (reference, time) SELECT reference, created_at FROM sent RETURNING id, reference
)
INSERT INTO entries
SELECT made.id, entry.ledger_account, entry.amount
FROM made JOIN sent USING (reference),
    LATERAL (VALUES (8 * sent.account + 1, sent.held), (8 * sent.account + 2, -sent.held)) AS entry (ledger_account, amount);

UPDATE ledger_accounts SET reserved = sent.held
FROM (SELECT account, sum(held)::bigint AS held FROM orders WHERE status = 'sent' AND held > 0 GROUP BY account) AS sent
WHERE id = 8 * sent.account + 1;

ALTER TABLE ledger_accounts ADD CHECK (reserved = 0 OR (kind = 'cash' AND reserved BETWEEN 0 AND balance));

DROP FUNCTION place_intent;

-- Intents and their reserves, each once per (account, client_order_id) for ever: `new`, `known` with the order that is
-- there, or `no_funds` with nothing written and the cash that is free. One round trip and one commit for all, which come
-- in the order of their accounts: then any number of calls at once never wait in a circle.
CREATE FUNCTION place_intents(intents orders[]) RETURNS TABLE (answer text, cash bigint, known orders)
LANGUAGE plpgsql AS $$
DECLARE
    intent orders;
    reserved_now boolean;
BEGIN
    FOREACH intent IN ARRAY intents LOOP
        cash := 0;
        reserved_now := false;
        IF intent.held > 0 THEN
            UPDATE ledger_accounts SET reserved = reserved + intent.held
                WHERE id = 8 * intent.account + 1 AND balance - reserved >= intent.held;
            reserved_now := FOUND;
        END IF;
        -- A look first: an insert would wait for settlement where that is writing the order, and settlement for the cash.
        SELECT * INTO known FROM orders
            WHERE orders.account = intent.account AND orders.client_order_id = intent.client_order_id;
        answer := CASE WHEN FOUND THEN 'known' WHEN intent.held > 0 AND NOT reserved_now THEN 'no_funds' ELSE 'new' END;
        IF answer = 'new' THEN
            INSERT INTO orders SELECT intent.* ON CONFLICT (account, client_order_id) DO NOTHING;
            IF NOT FOUND THEN  -- the same at the same time
                answer := 'known';
                SELECT * INTO known FROM orders
                    WHERE orders.account = intent.account AND orders.client_order_id = intent.client_order_id;
            END IF;
        ELSIF answer = 'no_funds' THEN
            SELECT coalesce(max(balance - reserved), 0) INTO cash FROM ledger_accounts WHERE id = 8 * intent.account + 1;
        END IF;
        IF answer <> 'new' AND reserved_now THEN
            UPDATE ledger_accounts SET reserved = reserved - intent.held WHERE id = 8 * intent.account + 1;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
