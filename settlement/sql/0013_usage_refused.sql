-- Usage reports that were refused, for their supplier: what each said, and why it had no effect.
CREATE TABLE refused_usage (
    account bigint NOT NULL,
    refused_at bigint NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    position bigint NOT NULL,
    fill_index integer NOT NULL,
    sequence bigint NOT NULL,
    gpu_ms bigint NOT NULL,
    final boolean NOT NULL,
    measured_at bigint NOT NULL,
    code text NOT NULL,
    args text NOT NULL,
    PRIMARY KEY (account, refused_at, partition, record_offset)
);
CREATE INDEX refused_usage_of_lease ON refused_usage
    (account, position, fill_index, refused_at, partition, record_offset);

-- Figures and moments of a lease's reports rise together, within the lease's time.
UPDATE usage SET measured_at = risen.measured_at
FROM (
    SELECT usage.position, usage.fill_index, sequence,
        max(greatest(start_at, least(measured_at, coalesce(ends_at, end_at))))
            OVER (PARTITION BY usage.position, usage.fill_index ORDER BY sequence) AS measured_at
    FROM usage JOIN leases USING (position, fill_index)
) AS risen
WHERE (usage.position, usage.fill_index, usage.sequence) = (risen.position, risen.fill_index, risen.sequence)
    AND usage.measured_at <> risen.measured_at;
