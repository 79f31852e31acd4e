-- Expired ACME orders are looked through from the oldest on, a bounded number at a time.
CREATE INDEX acme_order_expires ON acme_order (expires_at, id);
-- "Does another order rest on this authorization?" is asked for each one that may go, and again by its foreign key.
CREATE INDEX acme_order_authorization_reverse ON acme_order_authorization (authorization_id);
