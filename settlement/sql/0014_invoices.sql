-- What leases came to, month by month: the lines of invoices and of statements of sales.

CREATE FUNCTION month_of(ms bigint) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN (
    SELECT (extract(year FROM at) - 1970) * 12 + extract(month FROM at) - 1
    FROM (SELECT timestamp '1970-01-01' + ms * interval '1 millisecond' AS at) AS moment
)::integer;

-- A lease in a month, in all: of its cumulative bill what was added in that month.
CREATE TABLE charges (
    position bigint NOT NULL,
    fill_index integer NOT NULL,
    month integer NOT NULL,
    buyer bigint NOT NULL,
    seller bigint NOT NULL,
    used_gpu_ms bigint NOT NULL,
    forfeited_gpu_ms bigint NOT NULL,
    cost bigint NOT NULL,
    buyer_fee bigint NOT NULL,
    seller_fee bigint NOT NULL,
    PRIMARY KEY (position, fill_index, month)
) WITH (fillfactor = 70);
CREATE INDEX charges_bought ON charges (buyer, month, position, fill_index);
CREATE INDEX charges_sold ON charges (seller, month, position, fill_index);

-- Whether a month is final, of a supplier; of a buyer there is leases_open.
CREATE INDEX leases_open_sales ON leases (seller) WHERE state <> 'closed';

-- In which month's invoice it is, where that is not the month of its time.
ALTER TABLE transactions ADD month integer;

-- What was charged before is in the month of the lease's end, or of its last charge.
CREATE TEMPORARY TABLE charged_before ON COMMIT DROP AS
SELECT leases.*, month_of(least(coalesce(ends_at, end_at) - 1, last_charge)) AS month,
    floor(price::numeric * (used_gpu_ms + forfeited_gpu_ms) / 3600000) AS cost
FROM leases JOIN (
    SELECT -ledger_account AS number, max(time) AS last_charge
    FROM entries JOIN transactions ON transactions.id = transaction
    WHERE ledger_account < 0 AND amount < 0 GROUP BY ledger_account
) AS billed USING (number)
WHERE used_gpu_ms + forfeited_gpu_ms > 0;

INSERT INTO charges
SELECT position, fill_index, month, buyer, seller, used_gpu_ms, forfeited_gpu_ms, cost, charged - cost, cost - earned
FROM charged_before;

ALTER TABLE transactions DISABLE TRIGGER immutable;
UPDATE transactions SET month = charged_before.month
FROM entries JOIN charged_before ON ledger_account = -number AND amount < 0
WHERE transaction = transactions.id AND month_of(time) <> charged_before.month;
ALTER TABLE transactions ENABLE TRIGGER immutable;

-- The lines of all months of all accounts: of what they bought, and of what they sold. A lease's own is its number 0.
CREATE VIEW invoiced AS
SELECT buyer AS account, false AS sold, month, position, fill_index, 0 AS ordinal, 'lease' AS kind,
    used_gpu_ms + forfeited_gpu_ms AS gpu_ms, forfeited_gpu_ms, cost, buyer_fee AS fee, cost + buyer_fee AS amount
FROM charges
UNION ALL
SELECT seller, true, month, position, fill_index, 0, 'lease', used_gpu_ms + forfeited_gpu_ms, forfeited_gpu_ms, cost,
    seller_fee, cost - seller_fee
FROM charges;
