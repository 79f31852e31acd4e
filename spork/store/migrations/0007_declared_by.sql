-- Whose declaration a CA or an issuer comes from: the file hierarchy.toml, a Hierarchy resource (Hierarchy/<name>), or for an
-- Issuer or ClusterIssuer the cluster that holds it (cluster:<uid>). Several trees share an installation, and none may take a CA
-- of another one for removed.
ALTER TABLE authority ADD COLUMN declared_by text NOT NULL DEFAULT 'hierarchy.toml';
ALTER TABLE issuer ADD COLUMN declared_by text NOT NULL DEFAULT 'hierarchy.toml';

-- "How many certificates of this issuer are alive?" is asked before it is deleted.
CREATE INDEX certificate_live_by_issuer ON certificate (issuer_id, not_after) WHERE state = 'issued' AND issuer_id IS NOT NULL;
