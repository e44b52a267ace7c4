-- Up to when a usage report's figure counts: a report that comes late, or after an outage, still belongs to its hour.
ALTER TABLE usage ADD measured_at bigint;
UPDATE usage SET measured_at = reported_at;
ALTER TABLE usage ALTER measured_at SET NOT NULL;
-- The cumulative figure at any moment, without reading a lease's every report.
CREATE INDEX usage_by_time ON usage (position, fill_index, measured_at, gpu_ms);
