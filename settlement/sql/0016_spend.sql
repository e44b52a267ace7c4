-- Who spends within an account, a team, a user or a pool: what each may cost in a day and a month, and what it did cost.

-- Of a key, and of all that it orders; '' is none. `user_name`, as `user` is a word of SQL.
ALTER TABLE api_keys
    ADD team text NOT NULL DEFAULT '', ADD user_name text NOT NULL DEFAULT '', ADD pool text NOT NULL DEFAULT '';
ALTER TABLE orders
    ADD team text NOT NULL DEFAULT '', ADD user_name text NOT NULL DEFAULT '', ADD pool text NOT NULL DEFAULT '';
ALTER TABLE amends
    ADD team text NOT NULL DEFAULT '', ADD user_name text NOT NULL DEFAULT '', ADD pool text NOT NULL DEFAULT '';
ALTER TABLE leases
    ADD team text NOT NULL DEFAULT '', ADD user_name text NOT NULL DEFAULT '', ADD pool text NOT NULL DEFAULT '';

-- `committed` is what its orders, amends and leases can still cost: moved only while the account's cash row is locked,
-- by gateways and by settlement, in the transaction that moves the money.
CREATE TABLE spenders (
    account bigint NOT NULL REFERENCES accounts,
    kind text NOT NULL CHECK (kind IN ('team', 'user', 'pool')),
    name text NOT NULL CHECK (name <> ''),
    day_cap bigint CHECK (day_cap >= 0),
    month_cap bigint CHECK (month_cap >= 0),
    committed bigint NOT NULL DEFAULT 0 CHECK (committed >= 0),
    PRIMARY KEY (account, kind, name)
) WITH (fillfactor = 70);

-- What was charged to an account on a day (UTC, in days since the epoch, of the log time of the charge): by class all
-- of it, by team, user and pool what theirs is of it. Written by settlement alone.
CREATE TABLE spend (
    account bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('team', 'user', 'pool', 'class')),
    name text NOT NULL,
    day integer NOT NULL,
    charged bigint NOT NULL,
    PRIMARY KEY (account, kind, name, day)
) WITH (fillfactor = 70);

-- What was charged before this migration.
INSERT INTO spend
SELECT leases.buyer, 'class', leases.class_id, transactions.time / 86400000, sum(paid.amount)
FROM leases
JOIN entries AS escrow ON escrow.ledger_account = -leases.number
JOIN entries AS paid ON paid.transaction = escrow.transaction
JOIN ledger_accounts AS payee ON payee.id = paid.ledger_account AND payee.kind IN ('payable', 'revenue')
JOIN transactions ON transactions.id = escrow.transaction
GROUP BY 1, 2, 3, 4;

CREATE FUNCTION first_of_month(day integer) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT date_trunc('month', (date '1970-01-01' + day)::timestamp)::date - date '1970-01-01'
$$;

CREATE TYPE cap_reached AS (kind text, name text, period text, cap bigint, spent bigint, committed bigint);

-- The first cap that `asked` µ$ more would pass, of the team, the user and the pool; null where none would. To be asked
-- while the account's cash row is locked: then nothing moves until the order that asks is in.
CREATE FUNCTION find_cap(payer bigint, team text, user_name text, pool text, asked bigint, now bigint)
RETURNS cap_reached LANGUAGE sql AS $$
    SELECT spender.kind, spender.name, capped.period, capped.cap, capped.spent, spender.committed
    FROM (VALUES ('team', team), ('user', user_name), ('pool', pool)) AS label (kind, name)
    JOIN spenders AS spender ON (spender.account, spender.kind, spender.name) = (payer, label.kind, label.name)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(charged) FILTER (WHERE day = now / 86400000), 0)::bigint AS today,
            coalesce(sum(charged), 0)::bigint AS this_month
        FROM spend WHERE (spend.account, spend.kind, spend.name) = (payer, label.kind, label.name)
            AND day BETWEEN first_of_month((now / 86400000)::integer) AND now / 86400000
    ) AS spent
    CROSS JOIN LATERAL (
        VALUES ('day', spender.day_cap, spent.today), ('month', spender.month_cap, spent.this_month)
    ) AS capped (period, cap, spent)
    WHERE (spender.day_cap IS NOT NULL OR spender.month_cap IS NOT NULL)
        AND capped.spent + spender.committed + asked > capped.cap
    ORDER BY spender.kind, capped.period LIMIT 1
$$;

-- So much more is committed, by the team, the user and the pool.
CREATE FUNCTION commit_spend(payer bigint, team text, user_name text, pool text, asked bigint) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO spenders (account, kind, name, committed)
    SELECT payer, label.kind, label.name, asked
    FROM (VALUES ('pool', pool), ('team', team), ('user', user_name)) AS label (kind, name) WHERE label.name <> ''
    ON CONFLICT (account, kind, name) DO UPDATE SET committed = spenders.committed + excluded.committed
$$;

DROP FUNCTION place_intents;

-- As in 0003; and `over_cap`, with nothing written, where the hold would take who orders over a cap.
CREATE FUNCTION place_intents(intents orders[])
RETURNS TABLE (answer text, cash bigint, known orders, reached cap_reached)
LANGUAGE plpgsql AS $$
DECLARE
    intent orders;
    reserved_now boolean;
    spends boolean;
BEGIN
    FOREACH intent IN ARRAY intents LOOP
        cash := 0;
        reached := NULL;
        reserved_now := false;
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

DROP FUNCTION place_amend;

-- As in 0004; and `over_cap`, likewise.
CREATE FUNCTION place_amend(intent amends, terms bytea)
RETURNS TABLE (answer text, cash bigint, known amends, reached cap_reached)
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
                IF intent.held > 0 THEN
                    SELECT * INTO reached FROM find_cap(
                        intent.account, intent.team, intent.user_name, intent.pool, intent.held, intent.created_at);
                    IF reached.kind IS NOT NULL THEN
                        answer := 'over_cap';
                    END IF;
                END IF;
            END IF;
            IF answer <> 'new' THEN
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
            PERFORM commit_spend(intent.account, intent.team, intent.user_name, intent.pool, intent.held);
        END IF;
    END IF;
    RETURN NEXT;
END $$;
