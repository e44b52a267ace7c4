-- What comes back to a buyer comes back as it was paid; and a supplier owes what went back after it had withdrawn it.

-- What its buyer's daily credits paid of a lease, less what of that came back.
ALTER TABLE leases ADD by_credits bigint NOT NULL DEFAULT 0 CHECK (by_credits >= 0);
UPDATE leases SET by_credits = paid.amount
FROM (
    SELECT -escrow.ledger_account AS number, -sum(credits.amount) AS amount
    FROM entries AS credits JOIN ledger_accounts ON ledger_accounts.id = credits.ledger_account AND kind = 'daily_credits'
    JOIN entries AS escrow ON escrow.transaction = credits.transaction AND escrow.ledger_account < 0
    GROUP BY escrow.ledger_account
) AS paid
WHERE leases.number = paid.number;

-- What came back may be there beside what was granted.
ALTER TABLE daily_credits DROP CONSTRAINT daily_credits_check, ADD CHECK (remaining >= 0);

-- No credit is cut any more: all that is due is credited.
ALTER TABLE leases DROP credit_due, ADD CHECK (credited >= 0);

ALTER TABLE ledger_accounts
    DROP CONSTRAINT ledger_accounts_check1,
    ADD CONSTRAINT ledger_accounts_check1
        CHECK (balance >= 0 OR kind IN ('grants', 'outside', 'revenue', 'lent', 'payable'));
