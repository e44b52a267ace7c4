-- Named queries: each is an attribute of settlement.database.Queries. A parameter of a table's type takes whole rows.

-- name: nothing
SELECT;

-- name: lock_migrations
SELECT pg_advisory_xact_lock($1);

-- name: create_migrations
CREATE TABLE IF NOT EXISTS migrations (
    name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: applied_migrations
SELECT name, checksum FROM migrations;

-- name: add_migration
INSERT INTO migrations (name, checksum) VALUES ($1, $2);

-- Parties and keys.

-- name: create_account
WITH next AS (
    SELECT nextval(pg_get_serial_sequence('accounts', 'id')) AS id
), added AS (
    INSERT INTO accounts (id, name, owner, buyer_fee_bps, seller_fee_bps, created_at) OVERRIDING SYSTEM VALUE
    SELECT id, $1, coalesce($4, id), $2, $3, $5 FROM next
    RETURNING *
), opened AS (
    INSERT INTO ledger_accounts (id, kind, account)
    SELECT 8 * added.id + code, kind, added.id
    FROM added, (VALUES ('cash', 1), ('hold', 2), ('payable', 3)) AS kinds (kind, code)
)
SELECT * FROM added;

-- name: account
SELECT *, fees_of(tier) AS fees FROM accounts WHERE id = $1;

-- name: accounts
SELECT *, fees_of(tier) AS fees FROM accounts WHERE id > $1 ORDER BY id LIMIT $2;

-- name: set_tier
UPDATE accounts SET tier = $2 WHERE id = $1 AND ($2 = '' OR EXISTS (SELECT FROM fees WHERE tier = $2)) RETURNING id;

-- name: fees
SELECT * FROM fees WHERE $1::text IS NULL OR (tier, since) > ($1, $2::bigint) ORDER BY tier, since LIMIT $3;

-- name: set_fee
INSERT INTO fees SELECT $1, $2, $3, $4, $5 WHERE (SELECT count(*) FROM fees WHERE tier = $1 AND since <> $2) < $6
ON CONFLICT (tier, since) DO UPDATE SET
    buyer_fee_bps = excluded.buyer_fee_bps, seller_fee_bps = excluded.seller_fee_bps, set_at = excluded.set_at
RETURNING tier;

-- name: create_key
WITH spends AS (
    INSERT INTO spenders (account, kind, name)
    SELECT $1, kind, name FROM (VALUES ('team', $7), ('user', $8), ('pool', $9)) AS label (kind, name) WHERE name <> ''
    ON CONFLICT DO NOTHING
)
INSERT INTO api_keys (
    account, digest, prefix, label, scopes, created_at, team, user_name, pool, expires_at, addresses, public_key
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
RETURNING id;

-- name: rotate_key
WITH old AS (
    UPDATE api_keys SET overlap_until = least(overlap_until, $6) WHERE id = $1 AND NOT revoked RETURNING *
)
INSERT INTO api_keys (
    account, digest, prefix, label, scopes, created_at, team, user_name, pool, expires_at, addresses, public_key
)
SELECT account, $2, $3, label, scopes, $4, team, user_name, pool, $5, addresses, $7 FROM old
RETURNING id;

-- name: key
SELECT api_keys.*, accounts AS account_row, fees_of(tier) AS fees FROM api_keys JOIN accounts ON accounts.id = api_keys.account
WHERE digest = $1;

-- name: signing_key
SELECT api_keys.*, accounts AS account_row, fees_of(tier) AS fees FROM api_keys JOIN accounts ON accounts.id = api_keys.account
WHERE api_keys.id = $1 AND public_key IS NOT NULL;

-- name: use_nonce
WITH past AS (
    DELETE FROM used_nonces WHERE (api_key, nonce) IN (
        SELECT api_key, nonce FROM used_nonces WHERE until < $4 ORDER BY until LIMIT 20 FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO used_nonces (api_key, nonce, until) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING until;

-- name: keys
SELECT api_keys.*, accounts AS account_row, fees_of(tier) AS fees FROM api_keys JOIN accounts ON accounts.id = api_keys.account
WHERE api_keys.account = $1 AND api_keys.id > $2 ORDER BY api_keys.id LIMIT $3;

-- name: own_key
SELECT api_keys.*, accounts AS account_row, fees_of(tier) AS fees FROM api_keys JOIN accounts ON accounts.id = api_keys.account
WHERE api_keys.account = $1 AND api_keys.id = $2;

-- name: live_keys
SELECT count(*) FROM api_keys
WHERE account = $1 AND NOT revoked AND coalesce(least(expires_at, overlap_until) > $2, true);

-- name: revoke_key
UPDATE api_keys SET revoked = true WHERE account = $1 AND id = $2 RETURNING id;

-- name: balance
SELECT
    coalesce(sum(balance - reserved) FILTER (WHERE id IN (8 * $1::bigint + 1, 8 * $1::bigint + 5)), 0)::bigint AS cash,
    coalesce(sum(reserved) + sum(balance) FILTER (WHERE id = 8 * $1::bigint + 2), 0)::bigint AS held,
    coalesce((
        SELECT sum(escrow.balance) FROM leases JOIN ledger_accounts AS escrow ON escrow.id = -leases.number
        WHERE leases.buyer = $1 AND leases.state <> 'closed'
    ), 0)::bigint AS escrow,
    coalesce(sum(balance) FILTER (WHERE id = 8 * $1::bigint + 3), 0)::bigint AS receivable,
    coalesce(sum(balance) FILTER (WHERE id = 8 * $1::bigint + 4), 0)::bigint AS outgoing,
    coalesce(-sum(balance) FILTER (WHERE id = 8 * $1::bigint + 5), 0)::bigint AS credit,
    coalesce(sum(balance) FILTER (WHERE id = 8 * $1::bigint + 6), 0)::bigint AS daily_credits
FROM ledger_accounts WHERE id BETWEEN 8 * $1::bigint + 1 AND 8 * $1::bigint + 6;

-- Money in and out, and an account's own entries, newest first.

-- name: deposits
SELECT * FROM deposits
WHERE account = $1 AND ($2::text IS NULL
    OR (made_at, reference) < (SELECT made_at, reference FROM deposits WHERE account = $1 AND reference = $2))
ORDER BY made_at DESC, reference DESC LIMIT $3;

-- name: withdrawal
SELECT * FROM withdrawals WHERE account = $1 AND reference = $2;

-- name: withdrawals
SELECT * FROM withdrawals
WHERE account = $1 AND ($2::text IS NULL OR state = $2) AND ($3::text IS NULL OR (requested_at, reference)
    < (SELECT requested_at, reference FROM withdrawals WHERE account = $1 AND reference = $3))
ORDER BY requested_at DESC, reference DESC LIMIT $4;

-- Of all accounts, the oldest first.
-- name: withdrawals_under_way
SELECT * FROM withdrawals
WHERE ended_at IS NULL AND ($1::bigint IS NULL OR (requested_at, account, reference)
    > (SELECT requested_at, account, reference FROM withdrawals WHERE account = $1 AND reference = $2))
ORDER BY requested_at, account, reference LIMIT $3;

-- name: oldest_requested_withdrawal
SELECT requested_at FROM withdrawals
WHERE ended_at IS NULL AND state = 'requested' ORDER BY requested_at, account, reference LIMIT 1;

-- Of some ledger accounts ($1), those before an entry ($2, $3); each with the balances of all of them as they are now.
-- name: entries
SELECT entry.transaction, transactions.time, transactions.reference, entry.ledger_account, entry.amount, ARRAY(
    SELECT coalesce(ledger.balance, 0) FROM unnest($1::bigint[]) WITH ORDINALITY AS mine (id, place)
    LEFT JOIN ledger_accounts AS ledger USING (id) ORDER BY place
) AS balances
FROM unnest($1::bigint[]) AS mine (id), LATERAL (
    SELECT * FROM entries
    WHERE ledger_account = mine.id AND transaction <= coalesce($2::bigint, 9223372036854775807)
        AND ($2 IS NULL OR transaction <> $2 OR ledger_account < $3::bigint)
    ORDER BY transaction DESC LIMIT $4
) AS entry
JOIN transactions ON transactions.id = entry.transaction
ORDER BY entry.transaction DESC, entry.ledger_account DESC LIMIT $4;

-- name: escrow_of
SELECT -number FROM leases WHERE position = $1 AND fill_index = $2;

-- Who spends, and what.

-- Nothing where the name is new and there are $6 others of the kind already.
-- name: save_caps
INSERT INTO spenders (account, kind, name, day_cap, month_cap)
SELECT $1, $2, $3, $4, $5
WHERE EXISTS (SELECT FROM spenders WHERE (account, kind, name) = ($1, $2, $3))
    OR (SELECT count(*) FROM spenders WHERE account = $1 AND kind = $2) < $6
ON CONFLICT (account, kind, name) DO UPDATE SET day_cap = excluded.day_cap, month_cap = excluded.month_cap
RETURNING name;

-- Which of these would be one too many: it is new, and there are $5 of the kind already.
-- name: one_spender_too_many
SELECT label.kind FROM (VALUES ('team', $2), ('user', $3), ('pool', $4)) AS label (kind, name)
WHERE label.name <> ''
    AND NOT EXISTS (SELECT FROM spenders WHERE (account, kind, name) = ($1, label.kind, label.name))
    AND (SELECT count(*) FROM spenders WHERE account = $1 AND spenders.kind = label.kind) >= $5
LIMIT 1;

-- name: caps
SELECT spender.day_cap, spender.month_cap, spender.committed,
    coalesce(sum(charged) FILTER (WHERE day = $4), 0)::bigint AS spent_today,
    coalesce(sum(charged), 0)::bigint AS spent_this_month
FROM spenders AS spender LEFT JOIN spend
    ON (spend.account, spend.kind, spend.name) = (spender.account, spender.kind, spender.name)
    AND day BETWEEN first_of_month($4) AND $4
WHERE (spender.account, spender.kind, spender.name) = ($1, $2, $3)
GROUP BY spender.account, spender.kind, spender.name;

-- name: daily_credits
SELECT daily, day, granted, remaining FROM daily_credits WHERE account = $1;

-- By name; first, as '', what nobody of the kind has spent.
-- name: spent_by
WITH charged AS (
    SELECT kind, name, sum(charged)::bigint AS charged FROM spend
    WHERE account = $1 AND kind IN ($2, 'class') AND day >= $3 AND day < $4 GROUP BY kind, name
), named AS (
    SELECT name, coalesce(charged, 0) AS charged, coalesce(committed, 0) AS committed
    FROM (SELECT name, charged FROM charged WHERE kind = $2) AS spent
    FULL JOIN (SELECT name, committed FROM spenders WHERE account = $1 AND kind = $2) AS spenders USING (name)
)
SELECT * FROM (
    SELECT '' AS name, (coalesce(sum(charged) FILTER (WHERE kind = 'class'), 0)
        - coalesce(sum(charged) FILTER (WHERE kind = $2), 0))::bigint AS charged, 0 AS committed FROM charged
    UNION ALL SELECT * FROM named
) AS spent
WHERE (name <> '' OR charged <> 0) AND ($5::text IS NULL OR name > $5) ORDER BY name LIMIT $6;

-- Orders, as gateways write and read them.

-- A bid that comes alone goes in so, if its account has the funds and it is not known: place_intents, which any number and all
-- other cases take, costs twice as much. Nothing where it did not go in.
-- name: place_one
WITH reserved AS (
    UPDATE ledger_accounts SET reserved = reserved + ($1::orders).held
    WHERE id = 8 * ($1::orders).account + 1 AND balance - reserved >= ($1::orders).held AND NOT EXISTS (
        SELECT FROM orders
        WHERE account = ($1::orders).account AND client_order_id = ($1::orders).client_order_id)
    RETURNING id
)
INSERT INTO orders SELECT ($1::orders).* FROM reserved RETURNING true;

-- Bids of many accounts, $1, of which $2 are the cash rows, in the order of ids, with what each is to reserve, $3, and $4 and
-- $5 the bids' names. All of an account go in if it has the funds and knows none of them; the accounts of which they did.
-- name: place_plain
WITH locked AS MATERIALIZED (  -- as everybody locks them
    SELECT id, balance - reserved AS free FROM ledger_accounts WHERE id = ANY ($2::bigint[])
    ORDER BY id FOR NO KEY UPDATE
), known AS MATERIALIZED (
    SELECT 8 * orders.account + 1 AS id FROM unnest($4::bigint[], $5::text[]) AS asked (account, client_order_id)
    JOIN orders ON (orders.account, orders.client_order_id) = (asked.account, asked.client_order_id)
), fit AS MATERIALIZED (
    SELECT asked.id, asked.held FROM unnest($2::bigint[], $3::bigint[]) AS asked (id, held)
    JOIN locked ON locked.id = asked.id
    WHERE locked.free >= asked.held AND asked.id NOT IN (SELECT id FROM known)
), moved AS (
    UPDATE ledger_accounts AS account SET reserved = account.reserved + fit.held FROM fit WHERE account.id = fit.id
), taken AS (
    INSERT INTO orders SELECT wanted.* FROM unnest($1::orders[]) AS wanted
    WHERE 8 * wanted.account + 1 IN (SELECT id FROM fit)
)
SELECT (id - 1) / 8 AS account FROM fit;

-- name: place
SELECT answer, cash, known, reached FROM place_intents($1::orders[]);

-- name: place_amend
SELECT answer, cash, known, reached FROM place_amend($1::amends, $2);

-- name: amendment
SELECT * FROM amends WHERE account = $1 AND client_order_id = $2;

-- name: order
SELECT * FROM orders WHERE account = $1 AND order_id = $2;

-- name: order_by_client_id
SELECT * FROM orders WHERE account = $1 AND client_order_id = $2;

-- name: own_orders
SELECT * FROM orders WHERE account = $1 AND (order_id = ANY($2::bigint[]) OR client_order_id = ANY($3::text[]));

-- name: orders
SELECT * FROM orders
WHERE account = $1 AND order_id IS NOT NULL
    AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR class_id = $3)
    AND ($4::bigint IS NULL OR order_id < $4) AND ($6::smallint IS NULL OR side = $6)
ORDER BY order_id DESC LIMIT $5;

-- name: classes
SELECT * FROM classes ORDER BY class_id;

-- Leases and usage, as gateways read them.

-- Under a name of its own, in place of what had it; nothing where there are $5 others already.
-- name: add_ssh_key
INSERT INTO ssh_keys (account, name, public_key, created_at)
SELECT $1, $2, $3, $4 WHERE (SELECT count(*) FROM ssh_keys WHERE account = $1 AND name <> $2) < $5
ON CONFLICT (account, name) DO UPDATE SET public_key = excluded.public_key, created_at = excluded.created_at
RETURNING name;

-- name: ssh_keys
SELECT name, public_key, created_at FROM ssh_keys WHERE account = $1 ORDER BY name;

-- name: remove_ssh_key
DELETE FROM ssh_keys WHERE account = $1 AND name = $2 RETURNING name;

-- name: lease
SELECT leases.*, coalesce(escrow.balance, 0) AS escrow
FROM leases LEFT JOIN ledger_accounts AS escrow ON escrow.id = -leases.number
WHERE position = $1 AND fill_index = $2;

-- name: lease_details
SELECT
    (SELECT coalesce(array_agg(gpu ORDER BY gpu), '{}') FROM lease_gpus WHERE (position, fill_index) = ($1, $2)) AS gpus,
    (SELECT ssh_key FROM orders WHERE order_id = leases.bid_id) AS ssh_key
FROM leases WHERE (position, fill_index) = ($1, $2);

-- name: leases_bought
SELECT leases.*, coalesce(escrow.balance, 0) AS escrow
FROM leases LEFT JOIN ledger_accounts AS escrow ON escrow.id = -leases.number
WHERE buyer = $1 AND (cardinality($2::text[]) = 0 OR state = ANY ($2)) AND ($3::text IS NULL OR class_id = $3)
    AND ($4::bigint IS NULL OR (position, fill_index) < ($4, $5)) AND ($7::bigint IS NULL OR bid_id = $7)
ORDER BY position DESC, fill_index DESC LIMIT $6;

-- name: leases_sold
SELECT leases.*, coalesce(escrow.balance, 0) AS escrow
FROM leases LEFT JOIN ledger_accounts AS escrow ON escrow.id = -leases.number
WHERE seller = $1 AND (cardinality($2::text[]) = 0 OR state = ANY ($2)) AND ($3::text IS NULL OR class_id = $3)
    AND ($4::bigint IS NULL OR (position, fill_index) < ($4, $5)) AND ($7::bigint IS NULL OR ask_id = $7)
ORDER BY position DESC, fill_index DESC LIMIT $6;

-- Who has sold, by id: behind $1 and at most $2, or $3 alone.
-- name: suppliers
SELECT id FROM accounts
WHERE id > $1 AND ($3::bigint IS NULL OR id = $3) AND EXISTS (SELECT FROM leases WHERE seller = accounts.id)
ORDER BY id LIMIT $2;

-- Of the suppliers $1, what became of their leases that closed from $2 to before $3.
-- name: supplier_records
SELECT accounts.id AS account, accounts.name, count(seller) AS leases,
    count(delivered_at) AS delivered, count(*) FILTER (WHERE close_reason = 'not_delivered') AS not_delivered,
    count(*) FILTER (WHERE uptime_bps < 10000) AS degraded, count(*) FILTER (WHERE close_reason = 'reclaimed') AS ended_early,
    percentile_disc('{0.1,0.5,0.9}'::float8[]) WITHIN GROUP (
        ORDER BY greatest(0, delivered_at - greatest(start_at, leases.created_at)) / 1000
    ) FILTER (WHERE delivered_at IS NOT NULL) AS delivery_s,
    percentile_disc('{0.1,0.5,0.9}'::float8[]) WITHIN GROUP (ORDER BY uptime_bps)
        FILTER (WHERE uptime_bps IS NOT NULL) AS uptime_bps
FROM accounts LEFT JOIN leases ON seller = accounts.id AND state = 'closed' AND close_reason <> 'unfunded'
    AND closed_at >= $2 AND closed_at < $3
WHERE accounts.id = ANY ($1::bigint[])
GROUP BY accounts.id ORDER BY accounts.id;

-- name: usage
SELECT * FROM usage WHERE position = $1 AND fill_index = $2 AND sequence > $3 ORDER BY sequence LIMIT $4;

-- Invoices, as gateways read them: $2 is false of what the account bought, true of what it sold.

-- name: invoice_totals
SELECT month, count(*) AS lines, sum(gpu_ms)::bigint AS gpu_ms, sum(cost)::bigint AS cost, sum(fee)::bigint AS fees,
    sum(amount)::bigint AS amount,
    coalesce(sum(amount) FILTER (WHERE kind = 'correction'), 0)::bigint AS corrections
FROM invoiced WHERE account = $1 AND sold = $2 AND month BETWEEN $3 AND $4 GROUP BY month;

-- What of a month's charges daily credits ($1, a ledger account) paid: all that they moved, but for grants and lapses.
-- name: invoice_credits
SELECT coalesce(month, month_of(time)) AS month, -sum(amount)::bigint AS credits
FROM entries JOIN transactions ON transactions.id = transaction
WHERE ledger_account = $1 AND coalesce(month, month_of(time)) BETWEEN $2 AND $3 AND NOT EXISTS (
    SELECT FROM entries AS other WHERE other.transaction = entries.transaction AND other.ledger_account = 4)
GROUP BY 1;

-- name: invoice_lines
SELECT line.*, class_id, seller, accounts.name AS seller_name, buyer, attributes, quantity, price,
    CASE WHEN sold THEN leases.seller_fee_bps ELSE leases.buyer_fee_bps END AS fee_bps, start_at,
    coalesce(ends_at, end_at) AS until, team, user_name
FROM (
    SELECT * FROM invoiced WHERE account = $1 AND sold = $2 AND month = $3
        AND ($4::bigint IS NULL OR (position, fill_index, ordinal) > ($4, $5::integer, $6::integer))
    ORDER BY position, fill_index, ordinal LIMIT $7
) AS line
JOIN leases USING (position, fill_index) LEFT JOIN accounts ON accounts.id = seller
ORDER BY position, fill_index, ordinal;

-- Of one lease, as the account sees them.
-- name: notes
SELECT line.*, class_id, seller, accounts.name AS seller_name, buyer, attributes, quantity, price,
    CASE WHEN sold THEN leases.seller_fee_bps ELSE leases.buyer_fee_bps END AS fee_bps, start_at,
    coalesce(ends_at, end_at) AS until, team, user_name
FROM (
    SELECT * FROM invoiced
    WHERE account = $1 AND sold = $2 AND position = $3 AND fill_index = $4 AND kind = 'correction'
) AS line
JOIN leases USING (position, fill_index) LEFT JOIN accounts ON accounts.id = seller
ORDER BY ordinal;

-- name: invoice_finality
SELECT (SELECT min(time) FROM positions WHERE topic = $3) AS settled_to,
    (SELECT max(time) FROM positions) AS now,
    (SELECT min(coalesce(ends_at, end_at)) FROM leases
        WHERE state <> 'closed' AND ((NOT $2::boolean AND buyer = $1) OR ($2 AND seller = $1))) AS open_until;

-- From the first start to the last end of what an account bought, or with $2 sold.
-- name: usage_span
SELECT min(start_at) AS start_at, max(end_at) AS end_at FROM leases
WHERE ((buyer = $1 AND NOT $2) OR (seller = $1 AND $2))
    AND ($3::bigint IS NULL OR (position, fill_index) = ($3, $4));

-- Of each lease the figures at the beginning, then after each hour that changed them; of these the bills, and of the
-- bills the differences. An hour has what was measured after its beginning until its end.
-- name: usage_by_hour
WITH mine AS MATERIALIZED (
    SELECT position, fill_index, price, forfeited_gpu_ms, greatest(start_at, ends_at) AS forfeited_at,
        CASE WHEN $2 THEN seller_fee_bps ELSE buyer_fee_bps END AS fee_bps
    FROM leases
    WHERE ((buyer = $1 AND NOT $2) OR (seller = $1 AND $2)) AND start_at < $4 AND end_at > $3
        AND ($5::bigint IS NULL OR (position, fill_index) = ($5, $6))
), points AS (
    SELECT position, fill_index, -1 AS hour, (
            SELECT gpu_ms FROM usage
            WHERE (usage.position, usage.fill_index) = (mine.position, mine.fill_index) AND measured_at <= $3
            ORDER BY measured_at DESC, gpu_ms DESC LIMIT 1
        ) AS used, CASE WHEN forfeited_at < $3 THEN forfeited_gpu_ms END AS forfeited
    FROM mine
    UNION ALL
    SELECT position, fill_index, (measured_at - 1) / 3600000, gpu_ms, 0
    FROM mine JOIN usage USING (position, fill_index) WHERE measured_at > $3 AND measured_at <= $4
    UNION ALL
    SELECT position, fill_index, forfeited_at / 3600000, 0, forfeited_gpu_ms
    FROM mine WHERE forfeited_gpu_ms > 0 AND forfeited_at >= $3 AND forfeited_at < $4
), figures AS (
    SELECT position, fill_index, hour, coalesce(max(max(used)) OVER so_far, 0) AS used,
        coalesce(max(max(forfeited)) OVER so_far, 0) AS forfeited
    FROM points GROUP BY position, fill_index, hour
    WINDOW so_far AS (PARTITION BY position, fill_index ORDER BY hour)
), bills AS (
    SELECT position, fill_index, hour, used, forfeited, floor(price::numeric * (used + forfeited) / 3600000) AS cost,
        floor(price::numeric * (used + forfeited) * fee_bps / 36000000000) AS fee
    FROM figures JOIN mine USING (position, fill_index)
), grown AS (
    SELECT hour, used - lag(used) OVER one_by_one AS used, forfeited - lag(forfeited) OVER one_by_one AS forfeited,
        cost - lag(cost) OVER one_by_one AS cost, fee - lag(fee) OVER one_by_one AS fee
    FROM bills WINDOW one_by_one AS (PARTITION BY position, fill_index ORDER BY hour)
)
SELECT hour, sum(used)::bigint AS used, sum(forfeited)::bigint AS forfeited, sum(cost)::bigint AS cost,
    sum(fee)::bigint AS fee
FROM grown WHERE hour >= 0 GROUP BY hour HAVING sum(used) > 0 OR sum(forfeited) > 0 ORDER BY hour;

-- name: usage_by_lease
SELECT position, fill_index, class_id, quantity, price, buyer_fee_bps, seller_fee_bps, start_at,
    coalesce(ends_at, end_at) AS until, state, coalesce((
        SELECT gpu_ms FROM usage
        WHERE (usage.position, usage.fill_index) = (leases.position, leases.fill_index) AND measured_at <= $3
        ORDER BY measured_at DESC, gpu_ms DESC LIMIT 1
    ), 0) AS used_before, coalesce((
        SELECT gpu_ms FROM usage
        WHERE (usage.position, usage.fill_index) = (leases.position, leases.fill_index) AND measured_at <= $4
        ORDER BY measured_at DESC, gpu_ms DESC LIMIT 1
    ), 0) AS used_after,
    CASE WHEN greatest(start_at, ends_at) < $3 THEN forfeited_gpu_ms ELSE 0 END AS forfeited_before,
    CASE WHEN greatest(start_at, ends_at) < $4 THEN forfeited_gpu_ms ELSE 0 END AS forfeited_after
FROM leases
WHERE ((buyer = $1 AND NOT $2) OR (seller = $1 AND $2)) AND start_at < $4 AND end_at > $3
    AND ($5::bigint IS NULL OR (position, fill_index) < ($5, $6))
ORDER BY position DESC, fill_index DESC LIMIT $7;

-- Refused usage reports of an account, or of a lease, the newest first.
-- name: refused_usage
SELECT * FROM refused_usage
WHERE account = $1 AND ($2::bigint IS NULL OR (position, fill_index) = ($2, $3))
    AND ($4::bigint IS NULL OR (refused_at, partition, record_offset) < ($4, $5, $6))
ORDER BY refused_at DESC, partition DESC, record_offset DESC LIMIT $7;

-- name: refusal
SELECT code, args FROM refusals WHERE topic = $1 AND partition = $2 AND record_offset = $3;

-- name: applied
SELECT position FROM positions WHERE topic = $1 AND partition = $2;

-- Ends the rest of settlement's readers: somebody waits.
-- name: hurry
NOTIFY wanted;

-- name: whole_tables
SET LOCAL enable_seqscan = on;

-- name: totals
SELECT
    (SELECT count(*) FROM orders) AS orders,
    count(*) AS fills,
    count(*) FILTER (WHERE state <> 'closed') AS leases_open,
    count(*) FILTER (WHERE state = 'closed') AS leases_closed,
    coalesce(sum(used_gpu_ms), 0)::bigint AS used_gpu_ms,
    coalesce(sum(charged), 0)::bigint AS charged,
    (SELECT coalesce(sum(balance), 0) FROM ledger_accounts WHERE kind = 'escrow')::bigint AS escrow,
    (SELECT coalesce(sum(reserved) + sum(balance) FILTER (WHERE kind = 'hold'), 0) FROM ledger_accounts)::bigint AS held,
    (SELECT coalesce(abs(sum(amount)), 0) FROM entries)::bigint
        + (SELECT coalesce(sum(abs(account.balance - coalesce(posted.amount, 0))), 0)
           FROM ledger_accounts AS account
           LEFT JOIN (SELECT ledger_account, sum(amount) AS amount FROM entries GROUP BY ledger_account) AS posted
               ON posted.ledger_account = account.id)::bigint AS imbalance
FROM leases;

-- Settlement: where it stands.

-- name: lock_alone
SELECT pg_advisory_lock($1);

-- name: begin_positions
INSERT INTO positions SELECT topic, partition, 0, -1, 0 FROM unnest($1::text[], $2::integer[]) AS s (topic, partition)
ON CONFLICT DO NOTHING;

-- name: positions
SELECT * FROM positions ORDER BY topic, partition;

-- name: standing
SELECT (SELECT coalesce(max(number), 0) FROM leases) AS leases, (SELECT coalesce(max(seq), 0) FROM journal) AS journal;

-- Settlement: the rows that a batch needs.

-- name: orders_named
SELECT orders.* FROM orders JOIN unnest($1::bigint[], $2::text[]) AS named (account, client_order_id)
    USING (account, client_order_id)
UNION ALL
SELECT * FROM orders WHERE order_id = ANY ($3::bigint[]);

-- name: intents_due
SELECT * FROM orders WHERE status = 'sent' AND partition = $1 AND not_after < $2 ORDER BY not_after LIMIT $3;

-- name: amends_named
SELECT amends.* FROM amends JOIN unnest($1::bigint[], $2::text[]) AS named (account, client_order_id)
    USING (account, client_order_id)
UNION
SELECT * FROM amends WHERE status = 'sent' AND order_id = ANY ($3::bigint[]);

-- name: amends_due
SELECT * FROM amends WHERE status = 'sent' AND partition = $1 AND not_after < $2 ORDER BY not_after LIMIT $3;

-- name: leases_named
SELECT leases.* FROM leases JOIN unnest($1::bigint[], $2::integer[]) AS named (position, fill_index)
    USING (position, fill_index);

-- name: daily_credits_of
SELECT * FROM daily_credits WHERE account = ANY ($1::bigint[]);

-- name: daily_credits_due
SELECT * FROM daily_credits WHERE (daily > 0 OR remaining > 0) AND day < $1 ORDER BY day, account LIMIT $2;

-- name: leases_due
SELECT * FROM leases WHERE partition = $1 AND deadline < $2 ORDER BY deadline, position, fill_index LIMIT $3;

-- name: neighbours
SELECT found.*
FROM unnest($1::bigint[], $2::integer[], $3::bigint[]) AS report (position, fill_index, sequence),
LATERAL (
    (SELECT * FROM usage AS u WHERE (u.position, u.fill_index) = (report.position, report.fill_index)
        AND u.sequence <= report.sequence ORDER BY u.sequence DESC LIMIT 2)
    UNION ALL
    (SELECT * FROM usage AS u WHERE (u.position, u.fill_index) = (report.position, report.fill_index)
        AND u.sequence > report.sequence ORDER BY u.sequence LIMIT 1)
) AS found;

-- Who has the GPUs named ($1, $2), or those of some leases ($3, $4), from $5 on.
-- name: gpus_bound
SELECT position, fill_index, seller, gpu, lower(during), upper(during)
FROM lease_gpus JOIN (
    SELECT * FROM unnest($1::bigint[], $2::text[]) AS named (seller, gpu)
    UNION
    SELECT seller, gpu FROM lease_gpus
    JOIN unnest($3::bigint[], $4::integer[]) AS lease (position, fill_index) USING (position, fill_index)
) AS wanted USING (seller, gpu)
WHERE during && int8range($5, NULL);

-- name: deposits_made
SELECT reference, ledger_account / 8 AS account, amount
FROM transactions JOIN entries ON entries.transaction = transactions.id AND amount > 0
WHERE reference = ANY ($1::text[]);

-- name: accounts_known
SELECT id FROM accounts WHERE id = ANY ($1::bigint[]);

-- name: withdrawals_named
SELECT withdrawals.* FROM withdrawals JOIN unnest($1::bigint[], $2::text[]) AS named (account, reference)
    USING (account, reference);

-- name: credits_of
SELECT DISTINCT ON (account) * FROM credit_limits WHERE account = ANY ($1::bigint[]) ORDER BY account, number DESC;

-- name: balances_of
SELECT account, balance FROM ledger_accounts WHERE id = ANY ($1::bigint[]);

-- Of leases: how often each was corrected, by how much in all, and the last month in which it was charged.
-- name: corrected
SELECT named.position, named.fill_index, coalesce(max(ordinal), 0) AS ordinal,
    coalesce(sum(gpu_ms), 0)::bigint AS gpu_ms, (SELECT max(month) FROM charges
        WHERE (charges.position, charges.fill_index) = (named.position, named.fill_index)) AS charged_month
FROM unnest($1::bigint[], $2::integer[]) AS named (position, fill_index)
LEFT JOIN corrections USING (position, fill_index) GROUP BY named.position, named.fill_index;

-- name: cash_of
SELECT account, balance - reserved FROM ledger_accounts WHERE id = ANY ($1::bigint[]) ORDER BY id FOR NO KEY UPDATE;

-- Settlement: what a batch writes.

-- name: save_classes
INSERT INTO classes (class_id, partition, spec) SELECT * FROM unnest($1::text[], $2::integer[], $3::bytea[])
ON CONFLICT (class_id) DO UPDATE SET spec = excluded.spec, partition = excluded.partition;

-- name: save_class_states
UPDATE classes SET
    retired = classes.retired OR new.retired,
    halt = coalesce(new.halt, classes.halt),
    reference = coalesce(new.reference, classes.reference)
FROM unnest($1::text[], $2::boolean[], $3::smallint[], $4::bigint[]) AS new (class_id, retired, halt, reference)
WHERE classes.class_id = new.class_id;

-- name: add_orders
INSERT INTO orders SELECT * FROM unnest($1::orders[]);

-- name: save_orders
UPDATE orders SET
    order_id = new.order_id, command = new.command, status = new.status, price = new.price, duration = new.duration,
    fee_bps = new.fee_bps,
    filled = new.filled, remaining = new.remaining, held = new.held, reason = new.reason, refusal = new.refusal,
    refusal_args = new.refusal_args, created_at = new.created_at
FROM unnest($1::orders[]) AS new
WHERE (orders.account, orders.client_order_id) = (new.account, new.client_order_id);

-- name: save_amends
UPDATE amends SET status = new.status, held = new.held, refusal = new.refusal, refusal_args = new.refusal_args
FROM unnest($1::amends[]) AS new
WHERE (amends.account, amends.client_order_id) = (new.account, new.client_order_id);

-- Of leases of which nothing else has changed: most of those that change at all.
-- name: save_metered
UPDATE leases SET
    last_sequence = new.last_sequence, used_gpu_ms = new.used_gpu_ms, charged = new.charged, earned = new.earned
FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
    AS new (position, fill_index, last_sequence, used_gpu_ms, charged, earned)
WHERE (leases.position, leases.fill_index) = (new.position, new.fill_index);

-- name: save_leases
UPDATE leases SET
    state = new.state, close_reason = new.close_reason, delivered_at = new.delivered_at,
    accepted_at = new.accepted_at, closed_at = new.closed_at, deadline = new.deadline, connection = new.connection,
    last_sequence = new.last_sequence, used_gpu_ms = new.used_gpu_ms, charged = new.charged, earned = new.earned,
    ends_at = new.ends_at, forfeited_gpu_ms = new.forfeited_gpu_ms, degradations = new.degradations,
    uptime_bps = new.uptime_bps,
    proof = new.proof, next_position = new.next_position, next_index = new.next_index, renewal = new.renewal,
    lost_gpu_ms = new.lost_gpu_ms, credited = new.credited, by_credits = new.by_credits
FROM unnest($1::leases[]) AS new
WHERE (leases.position, leases.fill_index) = (new.position, new.fill_index);

-- name: open_ledger_accounts
INSERT INTO ledger_accounts (id, kind, account) SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[])
ON CONFLICT DO NOTHING;

-- name: save_daily_credits
INSERT INTO daily_credits SELECT * FROM unnest($1::daily_credits[])
ON CONFLICT (account) DO UPDATE SET daily = excluded.daily, day = excluded.day, granted = excluded.granted,
    remaining = excluded.remaining, taken = excluded.taken;

-- name: save_spend
INSERT INTO spend SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::integer[], $5::bigint[])
ON CONFLICT (account, kind, name, day) DO UPDATE SET charged = spend.charged + excluded.charged;

-- name: lock_ledger
SELECT FROM ledger_accounts WHERE id = ANY ($1::bigint[]) ORDER BY id FOR NO KEY UPDATE;

-- name: save_committed
UPDATE spenders SET committed = committed + moved.amount
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) AS moved (account, kind, name, amount)
WHERE (spenders.account, spenders.kind, spenders.name) = (moved.account, moved.kind, moved.name);

-- Gives up reserves ($1, $2), once all that the batch moves ($1 and $3) is locked, in the order in which everybody locks.
-- name: release
WITH locked AS MATERIALIZED (
    SELECT FROM ledger_accounts WHERE id = ANY ($1::bigint[] || $3::bigint[]) ORDER BY id FOR NO KEY UPDATE
)
UPDATE ledger_accounts SET reserved = reserved - released.amount
FROM unnest($1::bigint[], $2::bigint[]) AS released (id, amount), (SELECT count(*) FROM locked) AS all_locked
WHERE ledger_accounts.id = released.id;

-- The last of so many ids in a row: settlement alone takes any.
-- name: transaction_ids
SELECT setval(ids, nextval(ids) + $1 - 1) FROM CAST(pg_get_serial_sequence('transactions', 'id') AS regclass) AS ids;

-- name: save_charges
INSERT INTO charges SELECT * FROM unnest($1::charges[])
ON CONFLICT (position, fill_index, month) DO UPDATE SET
    used_gpu_ms = charges.used_gpu_ms + excluded.used_gpu_ms,
    forfeited_gpu_ms = charges.forfeited_gpu_ms + excluded.forfeited_gpu_ms,
    cost = charges.cost + excluded.cost, buyer_fee = charges.buyer_fee + excluded.buyer_fee,
    seller_fee = charges.seller_fee + excluded.seller_fee;

-- name: save_corrections
INSERT INTO corrections SELECT * FROM unnest($1::corrections[]);

-- name: save_deposits
INSERT INTO deposits SELECT * FROM unnest($1::deposits[]);

-- name: save_credits
INSERT INTO credit_limits SELECT * FROM unnest($1::credit_limits[]);

-- name: save_withdrawals
INSERT INTO withdrawals SELECT * FROM unnest($1::withdrawals[])
ON CONFLICT (account, reference) DO UPDATE SET
    state = excluded.state, provider_reference = excluded.provider_reference, reason = excluded.reason,
    sent_at = excluded.sent_at, ended_at = excluded.ended_at;

-- name: save_refused_usage
INSERT INTO refused_usage SELECT * FROM unnest($1::refused_usage[]);

-- Of leases that end early. First of all: what they leave may be bound anew by the same batch.
-- name: free_gpus
WITH ended AS (
    SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[]) AS lease (position, fill_index, until)
), unused AS (
    DELETE FROM lease_gpus USING ended
    WHERE (lease_gpus.position, lease_gpus.fill_index) = (ended.position, ended.fill_index) AND lower(during) >= until
)
UPDATE lease_gpus SET during = int8range(lower(during), until) FROM ended
WHERE (lease_gpus.position, lease_gpus.fill_index) = (ended.position, ended.fill_index)
    AND lower(during) < until AND upper(during) > until;

-- name: bind_gpus
INSERT INTO lease_gpus (position, fill_index, seller, gpu, during)
SELECT position, fill_index, seller, gpu, int8range(since, until)
FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[])
    AS bound (position, fill_index, seller, gpu, since, until);

-- name: save_outbox
INSERT INTO outbox SELECT * FROM unnest($1::outbox[]);

-- Settlement: what it sends to the engine.

-- name: outbox
SELECT * FROM outbox ORDER BY created_at, position, fill_index, kind LIMIT $1;

-- name: remove_sent
DELETE FROM outbox USING unnest($1::bigint[], $2::integer[], $3::text[]) AS sent (position, fill_index, kind)
WHERE (outbox.position, outbox.fill_index, outbox.kind) = (sent.position, sent.fill_index, sent.kind);

-- name: save_refusals
INSERT INTO refusals SELECT * FROM unnest($1::refusals[]);

-- name: save_journal
INSERT INTO journal SELECT * FROM unnest($1::journal[]);

-- name: advance
WITH moved AS (
    UPDATE positions SET next_offset = step.next_offset, position = step.position, time = step.time
    FROM unnest($1::positions[], $2::bigint[]) AS step (topic, partition, next_offset, position, time, was)
    WHERE (positions.topic, positions.partition) = (step.topic, step.partition) AND positions.next_offset = step.was
    RETURNING step.topic, step.partition, step.next_offset, step.position
)
SELECT pg_notify('settled', format('%s %s %s %s', topic, partition, next_offset, position)) FROM moved;

-- name: watched
SELECT * FROM watched($1);

-- The newest $3 of an account are kept.
-- name: save_lease_steps
WITH told AS (
    SELECT account, body, row_number() OVER (PARTITION BY account ORDER BY place) AS nth
    FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS step (account, body, place)
), moved AS (
    UPDATE lease_readers SET number = number + added.count
    FROM (SELECT account, count(*) FROM told GROUP BY account) AS added
    WHERE lease_readers.account = added.account
    RETURNING lease_readers.account, number, number - added.count AS before
), forgotten AS (
    DELETE FROM lease_steps USING moved
    WHERE lease_steps.account = moved.account AND lease_steps.number <= moved.number - $3
)
INSERT INTO lease_steps SELECT account, before + nth, body FROM told JOIN moved USING (account);

-- name: lease_reader
SELECT run, number FROM lease_readers WHERE account = $1;

-- name: lock_lease_readers
SELECT pg_advisory_xact_lock($1);

-- name: add_lease_reader
INSERT INTO lease_readers (account) VALUES ($1) ON CONFLICT DO NOTHING;

-- The first $3 of each account behind its number.
-- name: lease_steps
SELECT step.account, step.number, body FROM unnest($1::bigint[], $2::bigint[]) AS known (account, number),
LATERAL (
    SELECT * FROM lease_steps WHERE account = known.account AND number > known.number ORDER BY number LIMIT $3
) AS step;

-- One delivery for each webhook that wants the event; they share its id.
-- name: save_webhook_events
WITH numbered AS MATERIALIZED (
    SELECT nextval('webhook_events') AS event, account, kind, at, body
    FROM (
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[])
            WITH ORDINALITY AS told (account, kind, at, body, place) ORDER BY place
    ) AS in_order
), added AS (
    INSERT INTO webhook_deliveries (webhook, event, kind, at, body)
    SELECT webhooks.id, event, kind, at, body FROM numbered JOIN webhooks USING (account)
    WHERE removed_at IS NULL AND kind = ANY (kinds) RETURNING webhook
)
SELECT pg_notify('webhooks', '') FROM added LIMIT 1;

-- name: add_webhook
INSERT INTO webhooks (account, url, kinds, secret, created_at)
SELECT $1, $2, $3, $4, $5 WHERE (SELECT count(*) FROM webhooks WHERE account = $1 AND removed_at IS NULL) < $6
RETURNING id;

-- name: webhooks
SELECT id, account, url, kinds, created_at FROM webhooks
WHERE account = $1 AND removed_at IS NULL AND id > $2 ORDER BY id LIMIT $3;

-- name: has_webhook
SELECT id FROM webhooks WHERE account = $1 AND id = $2 AND removed_at IS NULL;

-- name: remove_webhook
UPDATE webhooks SET removed_at = now() WHERE account = $1 AND id = $2 AND removed_at IS NULL RETURNING id;

-- name: webhook_deliveries
SELECT webhook, event, kind, at, body, state, attempts, status, error,
    (extract(epoch FROM due_at) * 1000)::bigint AS due_at, (extract(epoch FROM done_at) * 1000)::bigint AS done_at
FROM webhook_deliveries
WHERE webhook = $1 AND ($2::text IS NULL OR state = $2) AND ($3::bigint IS NULL OR event < $3)
ORDER BY event DESC LIMIT $4;

-- name: replay_webhook_delivery
WITH again AS (
    UPDATE webhook_deliveries SET state = 'waiting', attempts = 0, due_at = now(), done_at = NULL
    WHERE webhook = $2 AND event = $3
        AND EXISTS (SELECT FROM webhooks WHERE account = $1 AND id = $2 AND removed_at IS NULL)
    RETURNING *
)
SELECT webhook, event, kind, at, body, state, attempts, status, error,
    (extract(epoch FROM due_at) * 1000)::bigint AS due_at, (extract(epoch FROM done_at) * 1000)::bigint AS done_at
FROM again, pg_notify('webhooks', '');

-- name: webhooks_due
SELECT id AS webhook, account, url, secret, due.event, due.body, due.attempts
FROM webhooks, LATERAL (
    SELECT event, body, attempts FROM webhook_deliveries
    WHERE webhook = webhooks.id AND state = 'waiting' AND due_at <= now()
    ORDER BY due_at, event LIMIT $2
) AS due
WHERE removed_at IS NULL AND id <> ALL ($1::bigint[]) LIMIT $3;

-- name: save_webhook_attempts
UPDATE webhook_deliveries AS delivery SET state = made.state, attempts = delivery.attempts + 1, status = made.status,
    error = made.error, due_at = now() + made.pause_ms * interval '1 millisecond',
    done_at = CASE WHEN made.state <> 'waiting' THEN now() END
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::integer[], $6::text[])
    AS made (webhook, event, state, pause_ms, status, error)
WHERE (delivery.webhook, delivery.event) = (made.webhook, made.event) AND delivery.state = 'waiting';

-- name: forget_webhook_deliveries
DELETE FROM webhook_deliveries WHERE (webhook, event) IN (
    (SELECT webhook, event FROM webhook_deliveries
    WHERE state <> 'waiting' AND done_at < now() - $1 * interval '1 day' ORDER BY done_at LIMIT $2)
    UNION
    (SELECT webhook, event FROM webhook_deliveries JOIN webhooks ON webhooks.id = webhook
    WHERE removed_at IS NOT NULL LIMIT $2)
);

-- The audit: each finds what should not be, at most $1 rows of (what, found, expected): among the keys $2, or where that
-- is null, among all. Keys are ids of transactions, ledger accounts, accounts or orders, or numbers of leases.

-- name: audit_transactions
SELECT 'the entries of transaction ' || transactions.reference AS what, sum(amount)::text AS found, '0' AS expected
FROM entries JOIN transactions ON transactions.id = entries.transaction
WHERE $2::bigint[] IS NULL OR transactions.id = ANY ($2)
GROUP BY transactions.id HAVING sum(amount) <> 0 ORDER BY transactions.id LIMIT $1;

-- name: audit_balances
SELECT 'the balance of ledger account ' || account.id AS what, account.balance::text AS found,
    coalesce(posted.amount, 0)::text AS expected
FROM ledger_accounts AS account
FULL JOIN (SELECT ledger_account, sum(amount) AS amount FROM entries GROUP BY ledger_account) AS posted
    ON posted.ledger_account = account.id
WHERE account.balance IS DISTINCT FROM coalesce(posted.amount, 0)
    OR (account.balance < 0 AND account.kind NOT IN ('grants', 'outside', 'revenue', 'lent', 'payable'))
ORDER BY account.id LIMIT $1;

-- The same by the auditor's own count of the entries.
-- name: audit_balances_kept
SELECT 'the balance of ledger account ' || coalesce(account.id, kept.ledger_account) AS what,
    coalesce(account.balance, 0)::text AS found, coalesce(kept.posted, 0)::text AS expected
FROM (SELECT * FROM ledger_accounts WHERE id = ANY ($2::bigint[])) AS account
FULL JOIN (SELECT * FROM audit_sums WHERE ledger_account = ANY ($2::bigint[])) AS kept ON kept.ledger_account = account.id
WHERE coalesce(account.balance, 0) <> coalesce(kept.posted, 0)
    OR (account.balance < 0 AND account.kind NOT IN ('grants', 'outside', 'revenue', 'lent', 'payable'))
ORDER BY 1 LIMIT $1;

-- name: audit_holds
WITH held AS (
    SELECT account, sum(held) AS held FROM orders
    WHERE held > 0 AND status <> 'sent' AND ($2::bigint[] IS NULL OR account = ANY ($2)) GROUP BY account
), ledger AS (
    SELECT account, balance FROM ledger_accounts
    WHERE kind = 'hold' AND ($2::bigint[] IS NULL OR id IN (SELECT 8 * key + 2 FROM unnest($2) AS keys (key)))
)
SELECT 'the hold of account ' || coalesce(ledger.account, held.account) AS what,
    coalesce(ledger.balance, 0)::text AS found, coalesce(held.held, 0)::text AS expected
FROM ledger FULL JOIN held ON held.account = ledger.account
WHERE coalesce(ledger.balance, 0) <> coalesce(held.held, 0)
ORDER BY 1 LIMIT $1;

-- name: audit_reserves
WITH sent AS (
    SELECT account, sum(held) AS held FROM (
        SELECT account, held FROM orders WHERE held > 0 AND status = 'sent'
        UNION ALL SELECT account, held FROM amends WHERE held > 0 AND status = 'sent'
    ) AS intents WHERE $2::bigint[] IS NULL OR account = ANY ($2) GROUP BY account
), ledger AS (
    SELECT account, reserved FROM ledger_accounts
    WHERE kind = 'cash' AND ($2::bigint[] IS NULL OR id IN (SELECT 8 * key + 1 FROM unnest($2) AS keys (key)))
)
SELECT 'what of the cash of account ' || coalesce(ledger.account, sent.account) || ' is reserved' AS what,
    coalesce(ledger.reserved, 0)::text AS found, coalesce(sent.held, 0)::text AS expected
FROM ledger FULL JOIN sent ON sent.account = ledger.account
WHERE coalesce(ledger.reserved, 0) <> coalesce(sent.held, 0)
ORDER BY 1 LIMIT $1;

-- An open bid whose account had not the money for its hold says so, and holds less.
-- name: audit_orders
SELECT 'what is held for order ' || account || ' ' || client_order_id AS what, held::text AS found, may_cost::text AS expected
FROM (
    SELECT *, CASE WHEN side = 0 AND status = 'open'
        THEN ceil(price::numeric * remaining * duration * (10000 + fee_bps) / 36000000000) ELSE 0 END AS may_cost
    FROM orders WHERE status <> 'sent' AND ($2::bigint[] IS NULL OR order_id = ANY ($2))
) AS answered
WHERE held > may_cost OR (held < may_cost AND reason <> 'unfunded')
ORDER BY account, client_order_id LIMIT $1;

-- name: audit_amends
SELECT 'what is reserved for the amend ' || account || ' ' || client_order_id AS what, held::text AS found, '0' AS expected
FROM amends WHERE held > 0 AND status <> 'sent' AND ($2::bigint[] IS NULL OR account = ANY ($2))
ORDER BY account, client_order_id LIMIT $1;

-- name: audit_escrows
SELECT 'the escrow of lease number ' || number AS what, escrow::text AS found, may_cost::text AS expected
FROM (
    SELECT billable.number, coalesce(ledger.balance, 0) AS escrow, CASE WHEN state = 'closed' THEN 0 ELSE
        floor(price::numeric * gpu_ms / 3600000) + floor(price::numeric * gpu_ms * buyer_fee_bps / 36000000000)
        - charged END AS may_cost
    FROM (
        SELECT *, quantity * (greatest(coalesce(ends_at, end_at), start_at) - start_at) + forfeited_gpu_ms AS gpu_ms
        FROM leases WHERE $2::bigint[] IS NULL OR number = ANY ($2)
    ) AS billable LEFT JOIN ledger_accounts AS ledger ON ledger.id = -billable.number
) AS escrows
WHERE escrow <> may_cost ORDER BY number LIMIT $1;

-- name: audit_charges
SELECT 'the bill of lease number ' || number AS what, charged || ' charged, ' || earned || ' earned' AS found,
    cost + buyer_fee || ' charged, ' || cost - seller_fee || ' earned' AS expected
FROM (
    SELECT *, floor(price::numeric * gpu_ms / 3600000) AS cost,
        floor(price::numeric * gpu_ms * buyer_fee_bps / 36000000000) AS buyer_fee,
        floor(price::numeric * gpu_ms * seller_fee_bps / 36000000000) AS seller_fee
    FROM (
        SELECT *, used_gpu_ms + forfeited_gpu_ms AS gpu_ms FROM leases WHERE $2::bigint[] IS NULL OR number = ANY ($2)
    ) AS billed
) AS bills
WHERE charged <> cost + buyer_fee OR earned <> cost - seller_fee ORDER BY number LIMIT $1;

-- name: audit_usage
SELECT 'the use of lease number ' || number AS what, used_gpu_ms::text AS found, coalesce(reported, 0)::text AS expected
FROM (
    SELECT number, used_gpu_ms, (SELECT gpu_ms FROM usage WHERE (usage.position, usage.fill_index)
        = (leases.position, leases.fill_index) ORDER BY sequence DESC LIMIT 1) AS reported
    FROM leases WHERE $2::bigint[] IS NULL OR number = ANY ($2)
) AS metered
WHERE used_gpu_ms <> coalesce(reported, 0) ORDER BY number LIMIT $1;

-- name: audit_uptimes
SELECT 'the uptime of lease number ' || number AS what, coalesce(uptime_bps::text, 'none') AS found,
    coalesce(expected_bps::text, 'none') AS expected
FROM (SELECT *, CASE WHEN state = 'closed' THEN uptime_of(leases) END AS expected_bps FROM leases) AS leases
WHERE ($2::bigint[] IS NULL OR number = ANY ($2)) AND uptime_bps IS DISTINCT FROM expected_bps
ORDER BY number LIMIT $1;

-- name: audit_sla
SELECT 'the SLA credit of lease number ' || number AS what, credited::text AS found, expected::text AS expected
FROM (SELECT *, CASE WHEN state = 'closed' THEN credit_of(leases) ELSE 0 END AS expected FROM leases) AS leases
WHERE ($2::bigint[] IS NULL OR number = ANY ($2)) AND credited <> expected
ORDER BY number LIMIT $1;

-- name: audit_earnings
SELECT 'what account ' || coalesce(earnings.account, ledger.account) || ' earned' AS what,
    coalesce(balance, 0)::text AS found, coalesce(earned, 0)::text AS expected
FROM (
    SELECT account, sum(earned) AS earned FROM (
        SELECT seller AS account, earned - credited AS earned FROM leases
        UNION ALL SELECT seller, cost - seller_fee FROM corrections
        UNION ALL SELECT account, -amount FROM withdrawals WHERE source = 'receivable' AND state <> 'failed'
    ) AS kept GROUP BY account
) AS earnings
FULL JOIN (SELECT account, balance FROM ledger_accounts WHERE kind = 'payable') AS ledger
    ON ledger.account = earnings.account
WHERE coalesce(balance, 0) <> coalesce(earned, 0)
UNION ALL
SELECT 'what account ' || account || ' owes beyond the credits of its leases', (-balance)::text, owed::text
FROM ledger_accounts, LATERAL (SELECT coalesce(sum(credited), 0) AS owed FROM leases WHERE seller = account) AS credits
WHERE kind = 'payable' AND balance < 0 AND -balance > owed
UNION ALL
SELECT 'the revenue', balance::text, fees::text
FROM ledger_accounts, (
    SELECT (SELECT coalesce(sum(charged - earned), 0) FROM leases)
        + (SELECT coalesce(sum(buyer_fee + seller_fee), 0) FROM corrections) AS fees
) AS charged
WHERE kind = 'revenue' AND balance <> fees
LIMIT $1;

-- name: audit_committed
WITH labelled AS (
    SELECT account, team, user_name, pool, held AS committed FROM orders
        WHERE held > 0 AND ($2::bigint[] IS NULL OR account = ANY ($2))
    UNION ALL SELECT account, team, user_name, pool, held FROM amends
        WHERE held > 0 AND ($2::bigint[] IS NULL OR account = ANY ($2))
    UNION ALL SELECT buyer, team, user_name, pool, escrow.balance
        FROM leases JOIN ledger_accounts AS escrow ON escrow.id = -leases.number
        WHERE state <> 'closed' AND ($2::bigint[] IS NULL OR buyer = ANY ($2))
), counted AS (
    SELECT account, kind, name, sum(committed) AS committed
    FROM labelled, LATERAL (VALUES ('team', team), ('user', user_name), ('pool', pool)) AS label (kind, name)
    WHERE name <> '' GROUP BY account, kind, name
)
SELECT 'what ' || kind || ' ' || name || ' of account ' || account || ' has committed' AS what,
    coalesce(spenders.committed, 0)::text AS found, coalesce(counted.committed, 0)::text AS expected
FROM (SELECT * FROM spenders WHERE $2::bigint[] IS NULL OR account = ANY ($2)) AS spenders
FULL JOIN counted USING (account, kind, name)
WHERE coalesce(spenders.committed, 0) <> coalesce(counted.committed, 0)
ORDER BY 1 LIMIT $1;

-- name: audit_daily_credits
SELECT 'what is left of the credits of account ' || coalesce(granted.account, ledger.account) AS what,
    coalesce(balance, 0)::text AS found, coalesce(remaining, 0)::text AS expected
FROM (SELECT * FROM daily_credits WHERE $2::bigint[] IS NULL OR account = ANY ($2)) AS granted
FULL JOIN (
    SELECT account, balance FROM ledger_accounts
    WHERE kind = 'daily_credits' AND ($2::bigint[] IS NULL OR id IN (SELECT 8 * key + 6 FROM unnest($2) AS keys (key)))
) AS ledger ON ledger.account = granted.account
WHERE coalesce(balance, 0) <> coalesce(remaining, 0) ORDER BY 1 LIMIT $1;

-- What the exchange gave away is what accounts have and what they spent, and that is what paid for their leases.
-- name: audit_grants
SELECT 'what was granted' AS what, (-balance)::text AS found, given::text AS expected
FROM ledger_accounts, (SELECT coalesce(sum(remaining + taken), 0) AS given FROM daily_credits) AS credits
WHERE kind = 'grants' AND -balance <> given
UNION ALL
SELECT 'what credits of account ' || coalesce(credits.account, leases.account) || ' paid', coalesce(taken, 0)::text,
    coalesce(paid, 0)::text
FROM (SELECT account, taken FROM daily_credits WHERE taken > 0) AS credits
FULL JOIN (SELECT buyer AS account, sum(by_credits) AS paid FROM leases WHERE by_credits > 0 GROUP BY buyer) AS leases
    USING (account)
WHERE coalesce(taken, 0) <> coalesce(paid, 0)
LIMIT $1;

-- name: audit_spend
WITH bills AS (
    SELECT leases.*, charged + coalesce(corrected, 0) AS billed
    FROM leases LEFT JOIN (
        SELECT position, fill_index, sum(cost + buyer_fee) AS corrected FROM corrections GROUP BY position, fill_index
    ) AS notes USING (position, fill_index)
), counted AS (
    SELECT buyer AS account, kind, name, sum(billed) AS charged
    FROM bills,
        LATERAL (VALUES ('class', class_id), ('team', team), ('user', user_name), ('pool', pool)) AS label (kind, name)
    WHERE name <> '' AND billed <> 0 GROUP BY buyer, kind, name
), spent AS (
    SELECT account, kind, name, sum(charged) AS charged FROM spend GROUP BY account, kind, name
)
SELECT 'what ' || kind || ' ' || name || ' of account ' || account || ' has spent' AS what,
    coalesce(spent.charged, 0)::text AS found, coalesce(counted.charged, 0)::text AS expected
FROM spent FULL JOIN counted USING (account, kind, name)
WHERE coalesce(spent.charged, 0) <> coalesce(counted.charged, 0)
ORDER BY 1 LIMIT $1;

-- What invoices and statements say of each lease, all months together, is what it was charged.
-- name: audit_months
SELECT 'the months of lease number ' || number AS what,
    concat_ws(' ', used, forfeited, paid, received) AS found,
    concat_ws(' ', used_gpu_ms, forfeited_gpu_ms, charged, earned) AS expected
FROM leases LEFT JOIN (
    SELECT position, fill_index, sum(used_gpu_ms) AS used, sum(forfeited_gpu_ms) AS forfeited,
        sum(cost + buyer_fee) AS paid, sum(cost - seller_fee) AS received
    FROM charges WHERE $2::bigint[] IS NULL
        OR (position, fill_index) IN (SELECT position, fill_index FROM leases WHERE number = ANY ($2))
    GROUP BY position, fill_index
) AS months USING (position, fill_index)
WHERE ($2::bigint[] IS NULL OR number = ANY ($2))
    AND (coalesce(used, 0), coalesce(forfeited, 0), coalesce(paid, 0), coalesce(received, 0))
    <> (used_gpu_ms, forfeited_gpu_ms, charged, earned)
ORDER BY number LIMIT $1;

-- A lease and its notes together are the bill of what it used after the last of them.
-- name: audit_corrections
SELECT 'what the notes of lease number ' || number || ' add' AS what, concat_ws(' ', cost, buyer_fee, seller_fee) AS found,
    concat_ws(' ', whole_cost - was_cost, whole_buyer_fee - (charged - was_cost), whole_seller_fee - (was_cost - earned))
        AS expected
FROM (
    SELECT *, floor(price::numeric * was / 3600000) AS was_cost, floor(price::numeric * is_now / 3600000) AS whole_cost,
        floor(price::numeric * is_now * buyer_fee_bps / 36000000000) AS whole_buyer_fee,
        floor(price::numeric * is_now * seller_fee_bps / 36000000000) AS whole_seller_fee
    FROM (
        SELECT leases.number, price, charged, earned, buyer_fee_bps, seller_fee_bps, notes.*,
            used_gpu_ms + forfeited_gpu_ms AS was, used_gpu_ms + forfeited_gpu_ms + gpu_ms AS is_now,
            used_gpu_ms + gpu_ms AS used, state
        FROM leases JOIN (
            SELECT position, fill_index, sum(gpu_ms) AS gpu_ms, sum(cost) AS cost, sum(buyer_fee) AS buyer_fee,
                sum(seller_fee) AS seller_fee
            FROM corrections WHERE $2::bigint[] IS NULL
                OR (position, fill_index) IN (SELECT position, fill_index FROM leases WHERE number = ANY ($2))
            GROUP BY position, fill_index
        ) AS notes USING (position, fill_index)
        WHERE $2::bigint[] IS NULL OR number = ANY ($2)
    ) AS noted
) AS bills
WHERE (cost, buyer_fee, seller_fee)
    <> (whole_cost - was_cost, whole_buyer_fee - (charged - was_cost), whole_seller_fee - (was_cost - earned))
    OR used < 0 OR state <> 'closed'
ORDER BY number LIMIT $1;

-- What they say of an account and a month is what the ledger moved for it: all but what came from outside,
-- is on its way there, or is lent.
-- name: audit_invoices
WITH moved AS (
    SELECT account, kind = 'payable' AS sold, coalesce(month, month_of(time)) AS month,
        sum(CASE kind WHEN 'payable' THEN amount ELSE -amount END) AS amount
    FROM entries JOIN transactions ON transactions.id = transaction JOIN ledger_accounts ON ledger_accounts.id = ledger_account
    WHERE kind IN ('cash', 'hold', 'escrow', 'daily_credits', 'payable') AND NOT EXISTS (
        SELECT FROM entries AS other WHERE other.transaction = entries.transaction
            AND (other.ledger_account = 6 OR (other.ledger_account > 0 AND other.ledger_account % 8 IN (4, 5))))
    GROUP BY 1, 2, 3
), lines AS (
    SELECT account, sold, month, sum(amount) AS amount FROM invoiced GROUP BY 1, 2, 3
)
SELECT 'the ' || CASE WHEN sold THEN 'statement' ELSE 'invoice' END || ' of account ' || account || ' for month ' || month
    AS what, coalesce(lines.amount, 0)::text AS found, coalesce(moved.amount, 0)::text AS expected
FROM moved FULL JOIN lines USING (account, sold, month)
WHERE coalesce(moved.amount, 0) <> coalesce(lines.amount, 0)
ORDER BY account, month LIMIT $1;

-- name: audit_outgoing
SELECT 'what of account ' || coalesce(withdrawn.account, ledger.account) || ' is on its way out' AS what,
    coalesce(balance, 0)::text AS found, coalesce(amount, 0)::text AS expected
FROM (
    SELECT account, sum(amount) AS amount FROM withdrawals
    WHERE ended_at IS NULL AND ($2::bigint[] IS NULL OR account = ANY ($2)) GROUP BY account
) AS withdrawn
FULL JOIN (
    SELECT account, balance FROM ledger_accounts
    WHERE kind = 'outgoing' AND ($2::bigint[] IS NULL OR id IN (SELECT 8 * key + 4 FROM unnest($2) AS keys (key)))
) AS ledger
    ON ledger.account = withdrawn.account
WHERE coalesce(balance, 0) <> coalesce(amount, 0)
ORDER BY 1 LIMIT $1;

-- name: audit_credits
WITH agreed AS (
    SELECT DISTINCT ON (account) account, credit FROM credit_limits
    WHERE $2::bigint[] IS NULL OR account = ANY ($2) ORDER BY account, number DESC
), ledger AS (
    SELECT account, -balance AS lent FROM ledger_accounts
    WHERE kind = 'lent' AND ($2::bigint[] IS NULL OR id IN (SELECT 8 * key + 5 FROM unnest($2) AS keys (key)))
)
SELECT 'what is lent to account ' || coalesce(ledger.account, agreed.account) AS what,
    coalesce(lent, 0)::text AS found, coalesce(credit, 0)::text AS expected
FROM ledger FULL JOIN agreed ON agreed.account = ledger.account
WHERE coalesce(lent, 0) <> coalesce(credit, 0)
ORDER BY 1 LIMIT $1;

-- What crossed the border is what the payments say: each deposit came in once, and what is settled went out.
-- name: audit_payments
WITH crossed AS (
    SELECT reference, amount FROM entries JOIN transactions ON transactions.id = transaction
    WHERE ledger_account = 6 AND ($2::bigint[] IS NULL OR transaction = ANY ($2))
), payments AS (
    SELECT 'deposit:' || reference AS reference, -amount AS outside FROM deposits
    WHERE $2::bigint[] IS NULL OR 'deposit:' || reference IN (SELECT reference FROM crossed)
    UNION ALL SELECT format('settled:%s:%s', account, reference), amount FROM withdrawals
    WHERE state = 'settled'
        AND ($2::bigint[] IS NULL OR format('settled:%s:%s', account, reference) IN (SELECT reference FROM crossed))
)
SELECT 'the payment ' || coalesce(payments.reference, crossed.reference) AS what,
    coalesce(-amount, 0)::text AS found, coalesce(-outside, 0)::text AS expected
FROM payments FULL JOIN crossed ON crossed.reference = payments.reference
WHERE coalesce(outside, 0) <> coalesce(amount, 0)
ORDER BY 1 LIMIT $1;

-- The same of each lease, by the auditor's own count of the entries that name it.
-- name: audit_earnings_kept
SELECT 'what lease number ' || number || ' brought in' AS what,
    coalesce(kept.earned, 0) || ' earned, ' || coalesce(kept.revenue, 0) || ' of revenue' AS found,
    leases.earned - credited + more_earned || ' earned, ' || charged - leases.earned + more_fees || ' of revenue' AS expected
FROM leases LEFT JOIN audit_lease_sums AS kept USING (position, fill_index), LATERAL (
    SELECT coalesce(sum(cost - seller_fee), 0) AS more_earned, coalesce(sum(buyer_fee + seller_fee), 0) AS more_fees
    FROM corrections WHERE (corrections.position, corrections.fill_index) = (leases.position, leases.fill_index)
) AS notes
WHERE number = ANY ($2::bigint[]) AND (coalesce(kept.earned, 0) <> leases.earned - credited + more_earned
    OR coalesce(kept.revenue, 0) <> charged - leases.earned + more_fees)
ORDER BY number LIMIT $1;

-- name: audit_figures
SELECT (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM leases) AS leases,
    (SELECT count(*) FROM entries) AS entries;

-- name: audit_leases
SELECT position, fill_index, class_id, bid_id, ask_id, buyer, seller, price, quantity, start_at, end_at,
    buyer_fee_bps, seller_fee_bps
FROM leases JOIN unnest($1::bigint[], $2::integer[]) AS named (position, fill_index) USING (position, fill_index);

-- How many leases were made between two positions of executions.
-- name: audit_leases_between
SELECT count(*) FROM leases WHERE position BETWEEN $1 AND $2;

-- The auditor: where it stands, and what it has counted.

-- name: audit_custom_plans
SET LOCAL plan_cache_mode = force_custom_plan;

-- name: audit_standing
SELECT transaction, digest, sweep, swept_transaction, swept_lease, swept_order, swept_ledger_account
FROM audit_standing;

-- name: save_audit_standing
UPDATE audit_standing SET transaction = $1, digest = $2, sweep = $3, swept_transaction = $4, swept_lease = $5,
    swept_order = $6, swept_ledger_account = $7, behind = $8, round_at = now(),
    swept_at = CASE WHEN sweep = $3 THEN swept_at ELSE now() END;

-- name: audit_executions
SELECT positions.partition, positions.next_offset AS applied_offset, coalesce(audited.next_offset, 0) AS next_offset,
    coalesce(audited.position, -1) AS position, coalesce(audited.swept_offset, 0) AS swept_offset,
    coalesce(audited.swept_position, -1) AS swept_position
FROM positions LEFT JOIN audit_partitions AS audited USING (partition)
WHERE positions.topic = $1 ORDER BY positions.partition;

-- name: save_audit_executions
INSERT INTO audit_partitions SELECT * FROM unnest($1::audit_partitions[])
ON CONFLICT (partition) DO UPDATE SET next_offset = excluded.next_offset, position = excluded.position,
    swept_offset = excluded.swept_offset, swept_position = excluded.swept_position;

-- Transactions behind $1 up to $2, at most $3, each with its entries: one row an entry, or one with none.
-- name: audit_entries
SELECT made.id, made.reference, made.time, made.month, entries.ledger_account, entries.amount
FROM (SELECT * FROM transactions WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3) AS made
LEFT JOIN entries ON entries.transaction = made.id
ORDER BY made.id, entries.ledger_account;

-- name: last_transaction
SELECT coalesce(max(id), 0) FROM transactions;

-- name: count_audit_sums
INSERT INTO audit_sums SELECT * FROM unnest($1::bigint[], $2::bigint[])
ON CONFLICT (ledger_account) DO UPDATE SET posted = audit_sums.posted + excluded.posted;

-- name: count_audit_lease_sums
INSERT INTO audit_lease_sums SELECT * FROM unnest($1::audit_lease_sums[])
ON CONFLICT (position, fill_index) DO UPDATE SET
    earned = audit_lease_sums.earned + excluded.earned, revenue = audit_lease_sums.revenue + excluded.revenue;

-- name: add_audit_block
INSERT INTO audit_blocks (last, first, digest_before, digest) VALUES ($1, $2, $3, $4);

-- name: audit_blocks
SELECT * FROM audit_blocks WHERE last > $1 ORDER BY last LIMIT $2;

-- name: audit_touched
SELECT number, bid_id FROM leases
JOIN unnest($1::bigint[], $2::integer[]) AS named (position, fill_index) USING (position, fill_index);

-- name: next_leases
SELECT number FROM leases WHERE number > $1 ORDER BY number LIMIT $2;

-- name: next_orders
SELECT order_id FROM orders WHERE order_id > $1 ORDER BY order_id LIMIT $2;

-- name: next_ledger_accounts
SELECT id FROM (
    (SELECT id FROM ledger_accounts WHERE id > $1 ORDER BY id LIMIT $2)
    UNION
    (SELECT ledger_account FROM audit_sums WHERE ledger_account > $1 ORDER BY ledger_account LIMIT $2)
) AS found ORDER BY id LIMIT $2;

-- Those that are new come back.
-- name: save_audit_findings
INSERT INTO audit_findings (rule, what, found, expected, sweep)
SELECT DISTINCT ON (rule, what) found.*, $5::bigint
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS found (rule, what, found, expected)
ON CONFLICT (rule, what) DO UPDATE SET found = excluded.found, expected = excluded.expected, sweep = excluded.sweep
RETURNING rule, what, found, expected, xmax = 0 AS is_new;

-- name: forget_audit_findings
DELETE FROM audit_findings WHERE sweep < $1;

-- name: audit_findings
SELECT rule, what, found, expected, (extract(epoch FROM now() - found_at) * 1000)::bigint AS age_ms
FROM audit_findings ORDER BY found_at, rule, what LIMIT $1;

-- name: audit_counts
SELECT rule, count(*) AS findings,
    coalesce(sum(abs(found::numeric - expected::numeric)) FILTER (WHERE rule IN ('transactions', 'balances')), 0)::bigint
        AS imbalance
FROM audit_findings GROUP BY rule;

-- name: audit_status
SELECT transaction, digest, behind, sweep, (extract(epoch FROM now() - round_at) * 1000)::bigint AS round_age_ms,
    (extract(epoch FROM now() - swept_at) * 1000)::bigint AS sweep_age_ms
FROM audit_standing;
