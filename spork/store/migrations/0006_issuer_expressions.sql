-- CEL expressions over a request that an issuer demands to hold: [{"rule": ..., "message": ...}].
ALTER TABLE issuer ADD COLUMN expressions jsonb NOT NULL DEFAULT '[]';
