-- A batch changes leases, what they were charged in the month, and their escrows, page by page: with room for a second
-- version of every row of a page, no index has to be written for them.
ALTER TABLE leases SET (fillfactor = 50);
ALTER TABLE ledger_accounts SET (fillfactor = 50);
ALTER TABLE charges SET (fillfactor = 50);

-- As in 0001; but escrows are not locked first, as settlement alone moves them and nobody else locks them, and what is
-- moved is counted in one pass.
CREATE OR REPLACE FUNCTION post_entries() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    unbalanced bigint;
    named bigint;
    moved bigint;
BEGIN
    SELECT transaction INTO unbalanced FROM added GROUP BY transaction HAVING sum(amount) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the entries of transaction % do not sum to 0', unbalanced USING ERRCODE = 'check_violation';
    END IF;
    -- In the order of ids, as everybody locks them: then nobody waits in a circle.
    PERFORM FROM ledger_accounts WHERE id IN (SELECT ledger_account FROM added WHERE ledger_account > 0)
        ORDER BY id FOR NO KEY UPDATE;
    WITH change AS MATERIALIZED (
        SELECT ledger_account, sum(amount)::bigint AS amount FROM added GROUP BY ledger_account
    ), changed AS (
        UPDATE ledger_accounts AS account SET balance = account.balance + change.amount
        FROM change WHERE account.id = change.ledger_account RETURNING account.id
    )
    SELECT (SELECT count(*) FROM change), (SELECT count(*) FROM changed) INTO named, moved;
    IF moved <> named THEN
        RAISE EXCEPTION 'an entry names a ledger account that does not exist' USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;
