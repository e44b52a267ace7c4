-- Keys that end, that are taken from some addresses alone, and that make place for a new secret.

-- `expires_at` as the key was given it, `overlap_until` since a newer secret took its place: the first of them ends it.
ALTER TABLE api_keys
    ADD expires_at bigint, ADD overlap_until bigint, ADD addresses cidr[] NOT NULL DEFAULT '{}';
