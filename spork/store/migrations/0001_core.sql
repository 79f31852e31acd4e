-- The state of one installation. Rules that hold for every table:
-- serials and digests are bytea; instants are timestamptz in whole seconds, UTC; JSON never holds secrets.

-- Authorities -----------------------------------------------------------------------------------------------------------
CREATE TABLE authority (
    id                 text PRIMARY KEY,
    kind               text NOT NULL CHECK (kind IN ('root', 'policy', 'issuing', 'management')),
    parent_id          text REFERENCES authority (id),
    subject_der        bytea NOT NULL UNIQUE,
    key_mode           text NOT NULL CHECK (key_mode IN ('sealed', 'online', 'offline', 'pkcs11')),
    spec               jsonb NOT NULL DEFAULT '{}',
    crl_shards         integer NOT NULL DEFAULT 1 CHECK (crl_shards BETWEEN 1 AND 1024),
    current_generation integer NOT NULL DEFAULT 1,
    -- Moves in every transaction that changes a status; OCSP caches and delta CRLs compare it.
    status_version     bigint NOT NULL DEFAULT 0,
    -- Full, delta and shard CRLs of an authority share this number line.
    crl_number         bigint NOT NULL DEFAULT 0,
    created_at         timestamptz NOT NULL DEFAULT now(),
    disabled_at        timestamptz
) WITH (fillfactor = 50);

-- Private keys ----------------------------------------------------------------------------------------------------------
CREATE TABLE key_encryption_key (
    id         text PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('online', 'sealed')),
    salt       bytea NOT NULL,
    memory_kib integer NOT NULL CHECK (memory_kib >= 65536),
    iterations integer NOT NULL CHECK (iterations >= 3),
    lanes      integer NOT NULL,
    verifier   bytea NOT NULL,
    active     boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX key_encryption_key_active ON key_encryption_key (kind) WHERE active;

CREATE TABLE private_key (
    id               text PRIMARY KEY,
    purpose          text NOT NULL,
    algorithm        text NOT NULL,
    spki             bytea NOT NULL,
    kek_id           text NOT NULL REFERENCES key_encryption_key (id),
    wrapped_data_key bytea NOT NULL,
    ciphertext       bytea NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX private_key_kek ON private_key (kek_id);

-- One row per key of an authority. OCSP finds the CA by name hash and key hash, which are stored for SHA-1 and SHA-256.
CREATE TABLE authority_generation (
    authority_id     text NOT NULL REFERENCES authority (id),
    generation       integer NOT NULL CHECK (generation >= 1),
    private_key_id   text REFERENCES private_key (id),
    algorithm        text NOT NULL,
    spki             bytea NOT NULL,
    spki_sha256      bytea NOT NULL UNIQUE,
    key_identifier   bytea NOT NULL,
    key_sha256       bytea NOT NULL,
    certificate_der  bytea,
    -- CSR handed out for signing elsewhere (offline parent or offline key).
    pending_csr      bytea,
    urls             jsonb NOT NULL DEFAULT '{}',
    not_after        timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (authority_id, generation)
);

-- Issuers ---------------------------------------------------------------------------------------------------------------
CREATE TABLE issuer (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace      text NOT NULL DEFAULT '',
    name           text NOT NULL,
    origin         text NOT NULL CHECK (origin IN ('file', 'kubernetes', 'rest')),
    authority_id   text NOT NULL REFERENCES authority (id),
    profiles       text[] NOT NULL,
    names          jsonb NOT NULL,
    keys           jsonb NOT NULL DEFAULT '{}',
    max_validity_s bigint,
    protocols      jsonb NOT NULL DEFAULT '{}',
    is_default     boolean NOT NULL DEFAULT false,
    disabled_at    timestamptz,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (namespace, name)
);

-- Moves in every transaction that changes authorities, generations, certificates of CAs, or issuers.
CREATE TABLE configuration_version (one boolean PRIMARY KEY DEFAULT true CHECK (one), version bigint NOT NULL);
INSERT INTO configuration_version (version) VALUES (1);

-- Certificates ----------------------------------------------------------------------------------------------------------
CREATE TABLE certificate (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    authority_id    text NOT NULL REFERENCES authority (id),
    generation      integer NOT NULL,
    serial          bytea NOT NULL CHECK (length(serial) BETWEEN 1 AND 20),
    crl_shard       smallint NOT NULL DEFAULT 0,
    state           text NOT NULL CHECK (state IN ('reserved', 'issued', 'abandoned')),
    issuer_id       bigint REFERENCES issuer (id),
    profile         text NOT NULL,
    subject         text NOT NULL,
    names           text[] NOT NULL,
    spki_sha256     bytea NOT NULL,
    not_before      timestamptz NOT NULL,
    not_after       timestamptz NOT NULL,
    scope           text NOT NULL,
    door            text NOT NULL,
    idempotency_key text NOT NULL,
    request_digest  bytea NOT NULL,
    lease_id        uuid,
    lease_until     timestamptz,
    -- The TBS is kept until the signature is recorded; afterwards the certificate itself holds it.
    tbs             bytea,
    der             bytea,
    sha256          bytea,
    requester       text NOT NULL,
    evidence        jsonb NOT NULL,
    -- Facts of the door that must be true from the first instant, such as the issuers an administrator is limited to.
    attributes      jsonb NOT NULL DEFAULT '{}',
    trace           jsonb NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    issued_at       timestamptz,
    UNIQUE (authority_id, serial),
    CHECK ((state = 'issued') = (der IS NOT NULL))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX certificate_idempotency ON certificate (scope, door, idempotency_key) WHERE state <> 'abandoned';
CREATE UNIQUE INDEX certificate_sha256 ON certificate (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX certificate_lease ON certificate (lease_until) WHERE state = 'reserved';
CREATE INDEX certificate_names ON certificate USING gin (names);
CREATE INDEX certificate_not_after ON certificate (not_after, id);
CREATE INDEX certificate_requester ON certificate (requester, id);
CREATE INDEX certificate_spki ON certificate (spki_sha256);
CREATE INDEX certificate_live_by_authority ON certificate (authority_id, generation, not_after);

-- One row per certificate whose status ever changed. A released hold keeps its row, so that delta CRLs can say removeFromCRL.
CREATE TABLE revocation (
    certificate_id  bigint PRIMARY KEY REFERENCES certificate (id),
    authority_id    text NOT NULL REFERENCES authority (id),
    generation      integer NOT NULL,
    crl_shard       smallint NOT NULL,
    serial          bytea NOT NULL,
    reason          smallint NOT NULL CHECK (reason IN (0, 1, 2, 3, 4, 5, 6, 9, 10)),
    revoked_at      timestamptz NOT NULL,
    invalidity_date timestamptz,
    released_at     timestamptz,
    not_after       timestamptz NOT NULL,
    -- authority.status_version of the change.
    version         bigint NOT NULL
);
CREATE INDEX revocation_by_scope ON revocation (authority_id, generation, crl_shard);
CREATE INDEX revocation_by_version ON revocation (authority_id, version);

CREATE TABLE crl (
    authority_id text NOT NULL REFERENCES authority (id),
    generation   integer NOT NULL,
    -- 0: the complete CRL; from 1 on: one shard.
    shard        smallint NOT NULL,
    number       bigint NOT NULL,
    -- Of a delta: the number of the base it changes; NULL for a full CRL.
    base_number  bigint,
    status_version bigint NOT NULL,
    this_update  timestamptz NOT NULL,
    next_update  timestamptz NOT NULL,
    entries      integer NOT NULL DEFAULT 0,
    -- NULL while the number is reserved and the signature is still to come.
    der          bytea,
    -- TBS handed out for signing elsewhere.
    tbs          bytea,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (authority_id, number)
);
CREATE INDEX crl_current ON crl (authority_id, generation, shard, number DESC) WHERE der IS NOT NULL;

-- ACME ------------------------------------------------------------------------------------------------------------------
CREATE TABLE acme_account (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issuer_id  bigint NOT NULL REFERENCES issuer (id),
    thumbprint bytea NOT NULL,
    jwk        jsonb NOT NULL,
    status     text NOT NULL CHECK (status IN ('valid', 'deactivated', 'revoked')),
    contact    text[] NOT NULL DEFAULT '{}',
    terms_agreed_at timestamptz,
    eab_key_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (issuer_id, thumbprint)
);

CREATE TABLE acme_order (
    id          text PRIMARY KEY,
    account_id  bigint NOT NULL REFERENCES acme_account (id),
    issuer_id   bigint NOT NULL REFERENCES issuer (id),
    identifiers jsonb NOT NULL,
    profile     text,
    -- Only what cannot be derived: ready follows from the authorizations, processing and valid from the certificate row
    -- whose idempotency key is this order's id.
    error       jsonb,
    not_before  timestamptz,
    not_after   timestamptz,
    replaces    text,
    expires_at  timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX acme_order_account ON acme_order (account_id, created_at);

CREATE TABLE acme_authorization (
    id               text PRIMARY KEY,
    account_id       bigint NOT NULL REFERENCES acme_account (id),
    identifier_type  text NOT NULL,
    identifier_value text NOT NULL,
    wildcard         boolean NOT NULL DEFAULT false,
    status           text NOT NULL CHECK (status IN ('pending', 'valid', 'invalid', 'deactivated', 'revoked')),
    expires_at       timestamptz NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX acme_authorization_reuse ON acme_authorization (account_id, identifier_type, identifier_value, wildcard, expires_at)
    WHERE status = 'valid';

CREATE TABLE acme_order_authorization (
    order_id         text NOT NULL REFERENCES acme_order (id),
    position         smallint NOT NULL,
    authorization_id text NOT NULL REFERENCES acme_authorization (id),
    PRIMARY KEY (order_id, position)
);

CREATE TABLE acme_challenge (
    id               text PRIMARY KEY,
    authorization_id text NOT NULL REFERENCES acme_authorization (id),
    type             text NOT NULL,
    token            text NOT NULL,
    status           text NOT NULL CHECK (status IN ('pending', 'processing', 'valid', 'invalid')),
    error            jsonb,
    attempts         smallint NOT NULL DEFAULT 0,
    validated_at     timestamptz
);
CREATE INDEX acme_challenge_authorization ON acme_challenge (authorization_id);

-- Lost on a crash on purpose: then every nonce handed out before becomes badNonce, and clients take a new one.
CREATE UNLOGGED TABLE nonce_key (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    key        bytea NOT NULL
);
CREATE UNLOGGED TABLE nonce_redemption (
    nonce      bytea PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX nonce_redemption_expires ON nonce_redemption (expires_at);

-- Work that follows a commit -----------------------------------------------------------------------------------------------
CREATE TABLE outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text NOT NULL,
    payload    jsonb NOT NULL,
    attempts   integer NOT NULL DEFAULT 0,
    run_at     timestamptz NOT NULL DEFAULT now(),
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_due ON outbox (run_at);

CREATE TABLE job (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        text NOT NULL,
    -- At most one open job of a kind for the same thing.
    subject     text NOT NULL,
    payload     jsonb NOT NULL DEFAULT '{}',
    attempts    integer NOT NULL DEFAULT 0,
    run_at      timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,
    last_error  text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kind, subject)
);
CREATE INDEX job_due ON job (kind, run_at);

-- Audit and administration -----------------------------------------------------------------------------------------------
CREATE TABLE audit_event (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    actor   text NOT NULL,
    action  text NOT NULL,
    subject text NOT NULL,
    detail  jsonb NOT NULL DEFAULT '{}',
    address text
);
CREATE INDEX audit_event_subject ON audit_event (subject, id);
CREATE INDEX audit_event_actor ON audit_event (actor, id);
CREATE INDEX audit_event_action ON audit_event (action, id);
