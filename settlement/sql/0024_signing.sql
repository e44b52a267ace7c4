-- Keys of those who will not send a secret: an Ed25519 public key, by which their requests are verified.

ALTER TABLE api_keys
    ALTER digest DROP NOT NULL,
    ADD public_key bytea CHECK (length(public_key) = 32),
    ADD CHECK ((digest IS NULL) <> (public_key IS NULL));

-- Of signed requests that change something, until their signatures are good no more: ms of the wall clock. Unlogged, as
-- a crash takes longer than most of them are good for, and then costs no write.
CREATE UNLOGGED TABLE used_nonces (
    api_key bigint NOT NULL,
    nonce text NOT NULL,
    until bigint NOT NULL,
    PRIMARY KEY (api_key, nonce)
);
CREATE INDEX used_nonces_until ON used_nonces (until);
