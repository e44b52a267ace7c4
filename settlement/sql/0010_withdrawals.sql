-- Money on its way out, the deposits as a list, and an index by which an account reads its own entries.

ALTER TABLE ledger_accounts
    DROP CONSTRAINT ledger_accounts_check,
    ADD CONSTRAINT ledger_accounts_check CHECK (CASE kind
        WHEN 'cash' THEN account > 0 AND id = 8 * account + 1
        WHEN 'hold' THEN account > 0 AND id = 8 * account + 2
        WHEN 'payable' THEN account > 0 AND id = 8 * account + 3
        WHEN 'outgoing' THEN account > 0 AND id = 8 * account + 4
        WHEN 'escrow' THEN account > 0 AND id < 0
        WHEN 'outside' THEN account = 0 AND id = 6
        WHEN 'revenue' THEN account = 0 AND id = 7
        ELSE false
    END);

CREATE TABLE withdrawals (
    account bigint NOT NULL,
    reference text NOT NULL,
    source text NOT NULL CHECK (source IN ('cash', 'receivable')),
    amount bigint NOT NULL CHECK (amount > 0),
    destination text NOT NULL,
    state text NOT NULL CHECK (state IN ('requested', 'sent', 'settled', 'failed')),
    provider_reference text NOT NULL,
    reason text NOT NULL,
    requested_at bigint NOT NULL,
    sent_at bigint,
    ended_at bigint,
    PRIMARY KEY (account, reference),
    CHECK ((ended_at IS NOT NULL) = (state IN ('settled', 'failed')))
);
CREATE INDEX withdrawals_of_account ON withdrawals (account, requested_at, reference);
CREATE INDEX withdrawals_under_way ON withdrawals (requested_at, account, reference) WHERE ended_at IS NULL;

CREATE TABLE deposits (
    reference text PRIMARY KEY,
    account bigint NOT NULL,
    amount bigint NOT NULL,
    made_at bigint NOT NULL
);
CREATE INDEX deposits_of_account ON deposits (account, made_at, reference);
INSERT INTO deposits
SELECT substr(reference, length('deposit:') + 1), ledger_account / 8, amount, time
FROM transactions JOIN entries ON entries.transaction = transactions.id AND amount > 0
WHERE reference LIKE 'deposit:%';

CREATE INDEX entries_of_ledger_account ON entries (ledger_account, transaction);
