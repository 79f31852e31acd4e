-- Actions are listed by prefix as well (certificate.), which an index serves only where it compares octets.
DROP INDEX audit_event_action;
CREATE INDEX audit_event_action ON audit_event (action COLLATE "C", id);
