-- A lease at work is changed again and again, with nothing that an index has: with room on its page none has to be written.
ALTER TABLE leases SET (fillfactor = 70);

-- Intents of an account that go in without a doubt go in at once, with one lock, one insert and one update for all, however
-- many they are; those of which any is known, is labelled or is not covered one by one, as before.

DROP FUNCTION place_intents;

CREATE FUNCTION place_intents(intents orders[])
RETURNS TABLE (answer text, cash bigint, known orders, reached cap_reached)
LANGUAGE plpgsql AS $$
DECLARE
    intent orders;
    reserved_now boolean;
    spends boolean;
    plain bigint[];
    expected bigint;
    inserted bigint;
BEGIN
    -- In the order of ids, as everybody locks them.
    PERFORM FROM ledger_accounts
        WHERE id = ANY (ARRAY(SELECT DISTINCT 8 * wanted.account + 1 FROM unnest(intents) AS wanted WHERE held > 0))
        ORDER BY id FOR NO KEY UPDATE;
    SELECT coalesce(array_agg(asked.account), '{}'), coalesce(sum(asked.count), 0) INTO plain, expected FROM (
        SELECT wanted.account, sum(wanted.held) AS held, count(*) AS count,
            count(DISTINCT wanted.client_order_id) = count(*)
            AND NOT bool_or(wanted.held > 0 AND (wanted.team <> '' OR wanted.user_name <> '' OR wanted.pool <> ''))
            AND bool_and(found.account IS NULL) AS is_plain
        FROM unnest(intents) AS wanted
        LEFT JOIN orders AS found
            ON (found.account, found.client_order_id) = (wanted.account, wanted.client_order_id)
        GROUP BY wanted.account
    ) AS asked LEFT JOIN ledger_accounts AS ledger ON ledger.id = 8 * asked.account + 1
    WHERE asked.is_plain AND (asked.held = 0 OR ledger.balance - ledger.reserved >= asked.held);
    IF expected > 0 THEN
        WITH taken AS (
            INSERT INTO orders SELECT wanted.* FROM unnest(intents) AS wanted WHERE wanted.account = ANY (plain)
            ON CONFLICT (account, client_order_id) DO NOTHING RETURNING orders.account, orders.held
        ), moved AS (
            UPDATE ledger_accounts SET reserved = reserved + held.amount
            FROM (SELECT taken.account, sum(taken.held) AS amount FROM taken WHERE taken.held > 0 GROUP BY 1) AS held
            WHERE id = 8 * held.account + 1
        )
        SELECT count(*) INTO inserted FROM taken;
        IF inserted <> expected THEN  -- the same at the same time: looked at once more, it is known
            RAISE EXCEPTION 'an intent came in twice at once' USING ERRCODE = 'serialization_failure';
        END IF;
        IF expected = cardinality(intents) THEN
            RETURN QUERY SELECT 'new', 0::bigint, NULL::orders, NULL::cap_reached FROM unnest(intents);
            RETURN;
        END IF;
    END IF;
    FOREACH intent IN ARRAY intents LOOP
        cash := 0;
        known := NULL;
        reached := NULL;
        reserved_now := false;
        IF intent.account = ANY (plain) THEN
            answer := 'new';
            RETURN NEXT;
            CONTINUE;
        END IF;
        spends := intent.held > 0 AND (intent.team <> '' OR intent.user_name <> '' OR intent.pool <> '');
        IF intent.held > 0 THEN
            UPDATE ledger_accounts SET reserved = reserved + intent.held
                WHERE id = 8 * intent.account + 1 AND balance - reserved >= intent.held;
            reserved_now := FOUND;
        END IF;
        -- A look first: an insert would wait for settlement where that is writing the order, and settlement for the cash.
        SELECT * INTO known FROM orders
            WHERE orders.account = intent.account AND orders.client_order_id = intent.client_order_id;
        answer := CASE WHEN FOUND THEN 'known' WHEN intent.held > 0 AND NOT reserved_now THEN 'no_funds' ELSE 'new' END;
        IF answer = 'new' AND spends THEN
            SELECT * INTO reached FROM find_cap(
                intent.account, intent.team, intent.user_name, intent.pool, intent.held, intent.created_at);
            IF reached.kind IS NOT NULL THEN
                answer := 'over_cap';
            END IF;
        END IF;
        IF answer = 'new' THEN
            INSERT INTO orders SELECT intent.* ON CONFLICT (account, client_order_id) DO NOTHING;
            IF NOT FOUND THEN  -- the same at the same time
                answer := 'known';
                SELECT * INTO known FROM orders
                    WHERE orders.account = intent.account AND orders.client_order_id = intent.client_order_id;
            ELSIF spends THEN
                PERFORM commit_spend(intent.account, intent.team, intent.user_name, intent.pool, intent.held);
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
