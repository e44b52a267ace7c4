-- Credit and debit notes: what was corrected of leases after they had closed.

CREATE TABLE corrections (
    position bigint NOT NULL,
    fill_index integer NOT NULL,
    ordinal integer NOT NULL CHECK (ordinal >= 1),
    month integer NOT NULL,
    corrects integer NOT NULL CHECK (corrects <= month),
    buyer bigint NOT NULL,
    seller bigint NOT NULL,
    gpu_ms bigint NOT NULL CHECK (gpu_ms <> 0),
    cost bigint NOT NULL,
    buyer_fee bigint NOT NULL,
    seller_fee bigint NOT NULL,
    made_at bigint NOT NULL,
    made_by bigint NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (position, fill_index, ordinal)
);
CREATE INDEX corrections_bought ON corrections (buyer, month, position, fill_index);
CREATE INDEX corrections_sold ON corrections (seller, month, position, fill_index);
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON corrections
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- As before, and a line for each note.
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
FROM corrections;
