-- Credits that an account is granted anew each UTC day, spent before its cash, and that lapse with the day.

ALTER TABLE ledger_accounts
    DROP CONSTRAINT ledger_accounts_check,
    ADD CONSTRAINT ledger_accounts_check CHECK (CASE kind
        WHEN 'cash' THEN account > 0 AND id = 8 * account + 1
        WHEN 'hold' THEN account > 0 AND id = 8 * account + 2
        WHEN 'payable' THEN account > 0 AND id = 8 * account + 3
        WHEN 'outgoing' THEN account > 0 AND id = 8 * account + 4
        WHEN 'lent' THEN account > 0 AND id = 8 * account + 5
        WHEN 'daily_credits' THEN account > 0 AND id = 8 * account + 6
        WHEN 'escrow' THEN account > 0 AND id < 0
        WHEN 'grants' THEN account = 0 AND id = 4
        WHEN 'outside' THEN account = 0 AND id = 6
        WHEN 'revenue' THEN account = 0 AND id = 7
        ELSE false
    END),
    DROP CONSTRAINT ledger_accounts_check1,
    ADD CONSTRAINT ledger_accounts_check1 CHECK (balance >= 0 OR kind IN ('grants', 'outside', 'revenue', 'lent'));
INSERT INTO ledger_accounts (id, kind, account) VALUES (4, 'grants', 0);

CREATE TABLE daily_credits (
    account bigint PRIMARY KEY REFERENCES accounts,
    -- Granted at the start of each day from now on.
    daily bigint NOT NULL CHECK (daily >= 0),
    -- Of which these are, in days since the epoch: granted on it, and not yet taken.
    day integer NOT NULL,
    granted bigint NOT NULL,
    remaining bigint NOT NULL CHECK (remaining BETWEEN 0 AND granted),
    -- Charges paid by credits, of all days.
    taken bigint NOT NULL CHECK (taken >= 0)
) WITH (fillfactor = 70);
CREATE INDEX daily_credits_due ON daily_credits (day, account) WHERE daily > 0 OR remaining > 0;
