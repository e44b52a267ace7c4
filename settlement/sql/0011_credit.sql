-- Credit: money lent to an account up front, as cash on one side and `lent`, below 0, on the other. So its cash row never
-- goes below 0, whatever holds and reserves do at once, and what the account owes is what is lent less its cash.

ALTER TABLE ledger_accounts
    DROP CONSTRAINT ledger_accounts_check,
    DROP CONSTRAINT ledger_accounts_check1,
    ADD CONSTRAINT ledger_accounts_check CHECK (CASE kind
        WHEN 'cash' THEN account > 0 AND id = 8 * account + 1
        WHEN 'hold' THEN account > 0 AND id = 8 * account + 2
        WHEN 'payable' THEN account > 0 AND id = 8 * account + 3
        WHEN 'outgoing' THEN account > 0 AND id = 8 * account + 4
        WHEN 'lent' THEN account > 0 AND id = 8 * account + 5
        WHEN 'escrow' THEN account > 0 AND id < 0
        WHEN 'outside' THEN account = 0 AND id = 6
        WHEN 'revenue' THEN account = 0 AND id = 7
        ELSE false
    END),
    ADD CONSTRAINT ledger_accounts_check1 CHECK (balance >= 0 OR kind IN ('outside', 'revenue', 'lent')),
    ADD CONSTRAINT ledger_accounts_lent CHECK (balance <= 0 OR kind <> 'lent');

-- Every limit that an account had; the last one counts.
CREATE TABLE credit_limits (
    account bigint NOT NULL,
    number integer NOT NULL,
    credit bigint NOT NULL CHECK (credit >= 0),
    set_at bigint NOT NULL,
    PRIMARY KEY (account, number)
);
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON credit_limits
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
