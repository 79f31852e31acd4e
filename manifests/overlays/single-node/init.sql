-- Runs once, when the volume is empty. Three logins: who migrates, who serves, who operates; the last two change rows alone,
-- and the operator's sees no private key.
\getenv owner SPORK_OWNER_PASSWORD
\getenv server SPORK_SERVER_PASSWORD
\getenv controller SPORK_CONTROLLER_PASSWORD
CREATE ROLE spork_runtime NOLOGIN;
CREATE ROLE spork_operator NOLOGIN;
CREATE ROLE spork_owner LOGIN PASSWORD :'owner';
CREATE ROLE spork_server LOGIN PASSWORD :'server';
CREATE ROLE spork_controller LOGIN PASSWORD :'controller';
GRANT spork_runtime TO spork_owner, spork_server;
GRANT spork_operator TO spork_controller;
CREATE DATABASE spork OWNER spork_owner ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0;
\connect spork
-- For the search of parts of names; only the administrator may install extensions everywhere.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
