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

-- What the operator (`spork controller`) may do: ask for certificates and trees, and revoke. It has no business with private keys,
-- administrators, ACME or enrolment tokens; it cannot write a certificate, only a reservation that a signer will doubt; and it
-- cannot write CAs. What is not granted here is denied, in new tables too. The role is made like the other one.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'spork_operator')
       AND (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
        BEGIN
            CREATE ROLE spork_operator NOLOGIN;
            EXECUTE format('GRANT spork_operator TO %I', current_user);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'spork_operator') THEN
        -- Takes column privileges away as well.
        REVOKE ALL ON ALL TABLES IN SCHEMA public FROM spork_operator;
        GRANT USAGE ON SCHEMA public TO spork_operator;
        GRANT SELECT ON schema_migration, configuration_version, authority, authority_generation, issuer, certificate, revocation,
                        crl, job TO spork_operator;
        GRANT INSERT, UPDATE ON issuer, revocation TO spork_operator;
        GRANT INSERT, UPDATE, DELETE ON job TO spork_operator;
        GRANT UPDATE (version) ON configuration_version TO spork_operator;
        -- The counter that every change of a status moves.
        GRANT UPDATE (status_version) ON authority TO spork_operator;
        -- Without `der`: a row can be reserved and be given up, but never be issued (CHECK on state and der).
        GRANT INSERT (authority_id, generation, serial, crl_shard, state, issuer_id, profile, subject, names, spki_sha256,
                      not_before, not_after, scope, door, idempotency_key, request_digest, lease_id, lease_until, tbs, requester,
                      evidence, attributes, trace) ON certificate TO spork_operator;
        GRANT UPDATE (state, lease_id, lease_until) ON certificate TO spork_operator;
        GRANT INSERT (actor, action, subject, detail, address) ON audit_event TO spork_operator;
        GRANT INSERT (kind, payload) ON outbox TO spork_operator;
    END IF;
END
$$;
