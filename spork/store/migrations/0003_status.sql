-- What CRLs and OCSP need to stay flat as certificates grow in number.

-- The responder certificates of a CA are a handful among millions.
CREATE INDEX certificate_responder ON certificate (authority_id, generation, not_after) WHERE profile = 'ocsp-signing';

-- "Has anything changed in this scope since the last list?" is asked every second, and a delta reads exactly those rows.
CREATE INDEX revocation_by_scope_version ON revocation (authority_id, generation, crl_shard, version);
DROP INDEX revocation_by_scope;

-- The URIs that a list carries in its issuingDistributionPoint: when the CA's URLs change, a new list is due.
ALTER TABLE crl ADD COLUMN distribution_points text[] NOT NULL DEFAULT '{}';
CREATE INDEX crl_scope ON crl (authority_id, generation, shard, number DESC);
