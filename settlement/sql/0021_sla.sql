-- What a lease's class promises of its uptime and of early ends, and what is credited where it was not kept.

ALTER TABLE leases
    -- Of the class at the fill: [[below, credit], …] in basis points, of uptime and of the cost.
    ADD sla jsonb NOT NULL DEFAULT '[]',
    -- Likewise, of the cost of the rest that a supplier takes back; and how much that was.
    ADD reclaim_credit_bps integer NOT NULL DEFAULT 0,
    ADD lost_gpu_ms bigint NOT NULL DEFAULT 0,
    -- At its close, µ$: by these terms, and out of what the supplier still had to receive.
    ADD credit_due bigint NOT NULL DEFAULT 0,
    ADD credited bigint NOT NULL DEFAULT 0 CHECK (credited BETWEEN 0 AND credit_due);

-- At most what its supplier earned with it.
CREATE FUNCTION credit_of(lease leases) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN (
    SELECT least(lease.earned, floor(floor(lease.price::numeric * (lease.used_gpu_ms + lease.forfeited_gpu_ms) / 3600000)
            * coalesce(max((step ->> 1)::integer) FILTER (WHERE lease.uptime_bps < (step ->> 0)::integer), 0) / 10000)
        + floor(floor(lease.price::numeric * lease.lost_gpu_ms / 3600000) * lease.reclaim_credit_bps / 10000))
    FROM jsonb_array_elements(lease.sla) AS steps (step)
)::bigint;

CREATE INDEX leases_credited ON leases (buyer, month_of(least(closed_at, coalesce(ends_at, end_at) - 1)))
    WHERE credited > 0;
CREATE INDEX leases_crediting ON leases (seller, month_of(least(closed_at, coalesce(ends_at, end_at) - 1)))
    WHERE credited > 0;

-- As before, and a line for each credit, in the month in which the use ended: its number is behind those of all notes.
CREATE OR REPLACE VIEW invoiced AS
SELECT buyer AS account, false AS sold, month, position, fill_index, 0 AS ordinal, 'lease' AS kind,
    used_gpu_ms + forfeited_gpu_ms AS gpu_ms, forfeited_gpu_ms, cost, buyer_fee AS fee, cost + buyer_fee AS amount,
    NULL::integer AS corrects, NULL::bigint AS made_at, NULL::text AS reason
FROM charges
UNION ALL
SELECT seller, true, month, position, fill_index, 0, 'lease', used_gpu_ms + forfeited_gpu_ms, forfeited_gpu_ms, cost,
    seller_fee, cost - seller_fee, NULL, NULL, NULL
FROM charges
UNION ALL
SELECT buyer, false, month, position, fill_index, ordinal, 'correction', gpu_ms, 0, cost, buyer_fee, cost + buyer_fee,
    corrects, made_at, reason
FROM corrections
UNION ALL
SELECT seller, true, month, position, fill_index, ordinal, 'correction', gpu_ms, 0, cost, seller_fee, cost - seller_fee,
    corrects, made_at, reason
FROM corrections
UNION ALL
SELECT buyer, false, month_of(least(closed_at, coalesce(ends_at, end_at) - 1)), position, fill_index, 1000000, 'credit',
    0, 0, -credited, 0, -credited, NULL, NULL, NULL
FROM leases WHERE credited > 0
UNION ALL
SELECT seller, true, month_of(least(closed_at, coalesce(ends_at, end_at) - 1)), position, fill_index, 1000000, 'credit',
    0, 0, -credited, 0, -credited, NULL, NULL, NULL
FROM leases WHERE credited > 0;
