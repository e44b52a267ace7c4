-- What each tier of accounts pays, and from when on: written before it is in force, and then for ever.

CREATE TABLE fees (
    tier text NOT NULL CHECK (tier <> ''),
    since bigint NOT NULL,
    buyer_fee_bps integer NOT NULL CHECK (buyer_fee_bps BETWEEN 0 AND 1000),
    seller_fee_bps integer NOT NULL CHECK (seller_fee_bps BETWEEN 0 AND 1000),
    set_at bigint NOT NULL,
    PRIMARY KEY (tier, since),
    CHECK (set_at < since)
);

-- '' has the fees of its own row.
ALTER TABLE accounts ADD tier text NOT NULL DEFAULT '';

CREATE FUNCTION fees_of(tier text) RETURNS fees[] LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(fees ORDER BY since), '{}') FROM fees WHERE fees.tier = fees_of.tier
$$;
