-- The audit log only grows, whoever asks: a login that owns the tables is stopped as well.
CREATE FUNCTION audit_event_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_event only grows: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_event_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION audit_event_only_grows();

-- Lists are newest first with keyset pages, and may be limited to one authority, profile or state.
CREATE INDEX certificate_by_authority ON certificate (authority_id, id);
CREATE INDEX certificate_by_profile ON certificate (profile, id);
CREATE INDEX audit_event_at ON audit_event (at, id);

-- Substrings of names and subjects. array_to_string is only STABLE because of types with other output rules; for text it is fixed.
CREATE FUNCTION certificate_search_text(subject text, names text[]) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT lower(subject || E'\n' || array_to_string(names, E'\n')) $$;
-- Servers without the contrib modules still work: there a substring search reads the list from its newest end.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') THEN
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
        CREATE INDEX certificate_search ON certificate USING gin (certificate_search_text(subject, names) gin_trgm_ops);
    END IF;
END
$$;
