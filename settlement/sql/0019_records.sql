-- How much of what was sold worked, of each lease that is closed: what a supplier's record is made of.

-- Of the time that was to be billed, in basis points, what was metered and not degraded. Where both are missing only the
-- larger counts: a supplier that does not meter what it said is broken has told once.
CREATE FUNCTION uptime_of(lease leases) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN (
    SELECT CASE WHEN allocated > 0
        THEN floor(10000 * (allocated - least(allocated, greatest(allocated - lease.used_gpu_ms, degraded))) / allocated) END
    FROM (
        SELECT lease.quantity::numeric * greatest(0, coalesce(lease.ends_at, lease.end_at)
                - greatest(lease.start_at, coalesce(lease.accepted_at, coalesce(lease.ends_at, lease.end_at)))) AS allocated,
            (
                SELECT coalesce(sum((spell ->> 2)::numeric * greatest(0,
                    least((spell ->> 1)::bigint, coalesce(lease.ends_at, lease.end_at))
                    - greatest((spell ->> 0)::bigint, lease.start_at, lease.accepted_at))), 0)
                FROM jsonb_array_elements(lease.degradations) AS spells (spell)
            ) AS degraded
    ) AS sold
)::integer;

-- Null while it is open, and where nothing of it was to be billed.
ALTER TABLE leases ADD uptime_bps integer;
UPDATE leases SET uptime_bps = uptime_of(leases) WHERE state = 'closed';

-- All that a record says of a lease, in the order in which it is asked for.
CREATE INDEX leases_record ON leases (seller, closed_at)
    INCLUDE (start_at, created_at, delivered_at, close_reason, uptime_bps) WHERE state = 'closed';
