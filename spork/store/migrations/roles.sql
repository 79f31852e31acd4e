-- What the runtime role may do. Runs at the end of every migration, so new tables are covered; it changes nothing the second time.
-- The role belongs to the whole server. Where the migrating login may not create roles, an administrator creates it
-- (CREATE ROLE spork_runtime NOLOGIN) and makes the serving login a member; without it, the triggers on audit_event stand alone.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'spork_runtime')
       AND (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
        BEGIN
            CREATE ROLE spork_runtime NOLOGIN;
            EXECUTE format('GRANT spork_runtime TO %I', current_user);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- Another database of this server was migrated at the same time.
        END;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'spork_runtime') THEN
        GRANT USAGE ON SCHEMA public TO spork_runtime;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO spork_runtime;
        REVOKE UPDATE, DELETE, TRUNCATE ON audit_event FROM spork_runtime;
        REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON schema_migration FROM spork_runtime;
        -- A certificate, its revocation and its CA are never forgotten.
        REVOKE DELETE, TRUNCATE ON authority, authority_generation, certificate, revocation FROM spork_runtime;
    END IF;
END
$$;
