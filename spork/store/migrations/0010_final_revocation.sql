-- A revocation is final, and is about the certificate that it was made for. Only a hold may be released, or become final. Every
-- login is bound by this, for each may write here: one that fell into wrong hands must not make a revoked administrator valid
-- again, or take a serial off the lists by calling it expired.
CREATE FUNCTION keep_revocation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.certificate_id, NEW.authority_id, NEW.generation, NEW.crl_shard, NEW.serial, NEW.not_after)
       IS DISTINCT FROM (OLD.certificate_id, OLD.authority_id, OLD.generation, OLD.crl_shard, OLD.serial, OLD.not_after) THEN
        RAISE EXCEPTION 'a revocation stays with its certificate' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF OLD.released_at IS NULL AND OLD.reason <> 6
       AND (NEW.reason, NEW.revoked_at, NEW.released_at) IS DISTINCT FROM (OLD.reason, OLD.revoked_at, OLD.released_at) THEN
        RAISE EXCEPTION 'a revocation is final' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER keep_revocation BEFORE UPDATE ON revocation FOR EACH ROW EXECUTE FUNCTION keep_revocation();
