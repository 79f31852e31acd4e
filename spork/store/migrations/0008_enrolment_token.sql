-- One-time tokens for enrolment. The token itself is shown once and never stored: a digest of its 256 random bits stands here.
CREATE TABLE enrolment_token (
    id             text PRIMARY KEY,
    -- The order of making, for pages of lists.
    number         bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    digest         bytea NOT NULL,
    issuer_id      bigint NOT NULL REFERENCES issuer (id),
    profile        text NOT NULL,
    -- kind:value; a certificate that the token brings forth carries exactly these.
    names          text[] NOT NULL CHECK (cardinality(names) > 0),
    max_validity_s bigint,
    note           text NOT NULL DEFAULT '',
    created_by     text NOT NULL,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    revoked_at     timestamptz,
    -- SHA-256 of the one request that the token was spent on. The same request may be repeated, no other one takes its place.
    request_digest bytea,
    redeemed_at    timestamptz,
    redeemed_from  text,
    CHECK ((request_digest IS NULL) = (redeemed_at IS NULL))
);
CREATE INDEX enrolment_token_issuer ON enrolment_token (issuer_id, number);
CREATE INDEX enrolment_token_expires ON enrolment_token (expires_at);
