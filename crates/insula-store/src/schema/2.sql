-- Version 2: who asked, what happened, who may ask. A change to the schema is a new file; this one is never edited.

-- Whoever asked before this version was root on the unix socket.
ALTER TABLE operation ADD COLUMN steps TEXT NOT NULL DEFAULT '[]'; -- a list of texts as JSON
ALTER TABLE operation ADD COLUMN notes TEXT NOT NULL DEFAULT '[]'; -- the same
ALTER TABLE operation ADD COLUMN requester TEXT NOT NULL DEFAULT 'root';
ALTER TABLE operation ADD COLUMN requester_role TEXT NOT NULL DEFAULT 'super-admin';
ALTER TABLE operation ADD COLUMN requester_tenant TEXT;
ALTER TABLE operation ADD COLUMN requester_peer TEXT NOT NULL DEFAULT 'unix';
ALTER TABLE operation ADD COLUMN request_id TEXT;
ALTER TABLE operation ADD COLUMN digest TEXT NOT NULL DEFAULT '';
ALTER TABLE operation ADD COLUMN tenant TEXT;
CREATE UNIQUE INDEX operation_of_request ON operation (requester, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX operation_of_target ON operation (target, id);
CREATE INDEX operation_of_tenant ON operation (tenant, id) WHERE tenant IS NOT NULL;
CREATE INDEX operation_ended ON operation (updated_at_ms) WHERE state IN ('succeeded', 'failed');
DROP INDEX operation_unfinished;
CREATE INDEX operation_unfinished ON operation (state) WHERE state IN ('queued', 'running', 'undoing');

-- From now on `vps.name` holds NAME~ID while the VPS is in the trash, so that its name is free: '~' is in no name.

-- A Profile as JSON.
CREATE TABLE profile (
    name    TEXT PRIMARY KEY,
    profile TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The profiles that were given once, so that one that was removed stays removed.
CREATE TABLE seeded_profile (
    name TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- The clients of the API. A revoked one holds its name no more.
CREATE TABLE client (
    id                  TEXT PRIMARY KEY,
    name                TEXT NOT NULL,
    role                TEXT NOT NULL,
    tenant              TEXT,
    created_at_ms       INTEGER NOT NULL,
    token_expires_at_ms INTEGER NOT NULL,
    enrolled_at_ms      INTEGER,
    revoked_at_ms       INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX client_name ON client (name) WHERE revoked_at_ms IS NULL;

CREATE TABLE client_certificate (
    fingerprint   TEXT PRIMARY KEY,
    client        TEXT NOT NULL REFERENCES client (id) ON DELETE CASCADE,
    key           TEXT NOT NULL,
    pem           TEXT NOT NULL,
    expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX certificate_of_client ON client_certificate (client, expires_at_ms);

-- What happened: `event` is an Event as JSON, what it is searched by stands beside it. AUTOINCREMENT
-- (https://sqlite.org/autoinc.html) never uses a number again, also when the newest events were removed.
CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms    INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    vps      TEXT,
    tenant   TEXT,
    event    TEXT NOT NULL
) STRICT;
CREATE INDEX event_of_vps ON event (vps) WHERE vps IS NOT NULL;
CREATE INDEX event_of_tenant ON event (tenant) WHERE tenant IS NOT NULL;

-- The state that the last event of a VPS told.
CREATE TABLE last_state (
    vps   TEXT PRIMARY KEY REFERENCES vps (id) ON DELETE CASCADE,
    state TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Who did what. Each line's hash covers the line and the hash before; what exactly stands in audit.rs.
CREATE TABLE audit (
    sequence    INTEGER PRIMARY KEY,
    at_ms       INTEGER NOT NULL,
    requester   TEXT NOT NULL,
    role        TEXT NOT NULL,
    tenant      TEXT,
    peer        TEXT NOT NULL,
    action      TEXT NOT NULL,
    object      TEXT NOT NULL,
    object_name TEXT NOT NULL,
    result      TEXT NOT NULL,
    request_id  TEXT,
    operation   TEXT,
    hash        TEXT NOT NULL
) STRICT;
CREATE INDEX audit_of_requester ON audit (requester);
CREATE INDEX audit_of_object ON audit (object);
CREATE INDEX audit_of_object_name ON audit (object_name);
CREATE TRIGGER audit_keeps_its_lines BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'a line of the audit log can''t be changed'); END;
CREATE TRIGGER audit_loses_no_line BEFORE DELETE ON audit
BEGIN SELECT raise(ABORT, 'a line of the audit log can''t be removed'); END;
CREATE TRIGGER audit_grows_at_its_end BEFORE INSERT ON audit
WHEN new.sequence IS NOT (SELECT coalesce(max(sequence), 0) + 1 FROM audit)
BEGIN SELECT raise(ABORT, 'a line of the audit log can stand at its end only'); END;

-- The host's secret: one row of 32 random bytes.
CREATE TABLE secret (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    value BLOB NOT NULL CHECK (length(value) = 32)
) STRICT;
