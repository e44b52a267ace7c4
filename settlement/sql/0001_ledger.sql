-- Parties, and their money in double entry (rulebook: Units; README: the ledger).

CREATE TABLE accounts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    owner bigint NOT NULL,
    buyer_fee_bps integer NOT NULL,
    seller_fee_bps integer NOT NULL,
    created_at bigint NOT NULL
);

CREATE TABLE api_keys (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account bigint NOT NULL REFERENCES accounts,
    digest bytea NOT NULL UNIQUE,
    prefix text NOT NULL,
    label text NOT NULL,
    scopes text[] NOT NULL,
    created_at bigint NOT NULL,
    revoked boolean NOT NULL DEFAULT false
);
CREATE INDEX api_keys_of_account ON api_keys (account);

-- Ids are computed, not looked up (settlement/ledger.py): 8 * account + code, or minus the lease's number.
-- Account 0 is the exchange itself.
CREATE TABLE ledger_accounts (
    id bigint PRIMARY KEY,
    kind text NOT NULL,
    account bigint NOT NULL,
    balance bigint NOT NULL DEFAULT 0,
    CHECK (CASE kind
        WHEN 'cash' THEN account > 0 AND id = 8 * account + 1
        WHEN 'hold' THEN account > 0 AND id = 8 * account + 2
        WHEN 'payable' THEN account > 0 AND id = 8 * account + 3
        WHEN 'escrow' THEN account > 0 AND id < 0
        WHEN 'outside' THEN account = 0 AND id = 6
        WHEN 'revenue' THEN account = 0 AND id = 7
        ELSE false
    END),
    CHECK (balance >= 0 OR kind IN ('outside', 'revenue'))
) WITH (fillfactor = 70);
INSERT INTO ledger_accounts (id, kind, account) VALUES (6, 'outside', 0), (7, 'revenue', 0);

CREATE TABLE transactions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reference text NOT NULL UNIQUE,
    time bigint NOT NULL
);

CREATE TABLE entries (
    transaction bigint NOT NULL REFERENCES transactions,
    ledger_account bigint NOT NULL,
    amount bigint NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (transaction, ledger_account)
);

-- What one statement adds must sum to 0 in each transaction, and moves the balances with it. Checked per statement and
-- not deferred: it costs one pass over the rows added, however many transactions they are.
CREATE FUNCTION post_entries() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    unbalanced bigint;
    moved integer;
BEGIN
    SELECT transaction INTO unbalanced FROM added GROUP BY transaction HAVING sum(amount) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the entries of transaction % do not sum to 0', unbalanced USING ERRCODE = 'check_violation';
    END IF;
    -- In the order of ids, as everybody locks them: then nobody waits in a circle.
    PERFORM FROM ledger_accounts WHERE id IN (SELECT ledger_account FROM added) ORDER BY id FOR NO KEY UPDATE;
    UPDATE ledger_accounts AS account SET balance = account.balance + change.amount
    FROM (SELECT ledger_account, sum(amount)::bigint AS amount FROM added GROUP BY ledger_account) AS change
    WHERE account.id = change.ledger_account;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> (SELECT count(DISTINCT ledger_account) FROM added) THEN
        RAISE EXCEPTION 'an entry names a ledger account that does not exist' USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER post_entries AFTER INSERT ON entries
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION post_entries();

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is written once: correct it with another transaction', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON transactions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
