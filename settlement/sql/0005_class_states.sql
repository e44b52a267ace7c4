-- How each class stands: retired for ever, halted (schemas.commands.HaltMode), its reference price in µ$, 0 for none.
ALTER TABLE classes
    ADD retired boolean NOT NULL DEFAULT false,
    ADD halt smallint NOT NULL DEFAULT 0,
    ADD reference bigint NOT NULL DEFAULT 0;
