-- Runs once, when the volume is empty. Three logins: who migrates, who serves, who operates; the last two change rows alone.
\getenv owner SPORK_OWNER_PASSWORD
\getenv server SPORK_SERVER_PASSWORD
\getenv operator SPORK_OPERATOR_PASSWORD
CREATE ROLE spork_runtime NOLOGIN;
CREATE ROLE spork_owner LOGIN PASSWORD :'owner';
CREATE ROLE spork_server LOGIN PASSWORD :'server';
CREATE ROLE spork_operator LOGIN PASSWORD :'operator';
GRANT spork_runtime TO spork_owner, spork_server, spork_operator;
CREATE DATABASE spork OWNER spork_owner ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0;
\connect spork
-- For the search of parts of names; only the administrator may install extensions everywhere.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
