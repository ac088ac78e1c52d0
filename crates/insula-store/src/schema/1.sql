-- Version 1. A change to the schema is a new file and a new entry of MIGRATIONS; this one is never edited.

-- A VPS as it should be. `spec` is a VpsSpec as JSON; `name` stands beside it to be unique.
CREATE TABLE vps (
    id   TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Who has an address: the primary key is what keeps one from being given twice.
CREATE TABLE address (
    network TEXT NOT NULL,
    address TEXT NOT NULL,
    vps     TEXT NOT NULL REFERENCES vps (id) ON DELETE CASCADE,
    PRIMARY KEY (network, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX address_of_vps ON address (vps);

-- Who has which user and group ids. Ranges are of one length and aligned to it, so that equal starts mean overlap.
CREATE TABLE id_range (
    start INTEGER PRIMARY KEY,
    vps   TEXT NOT NULL UNIQUE REFERENCES vps (id) ON DELETE CASCADE
) STRICT;

-- How a VPS ended the last time: an ExitRecord as JSON.
CREATE TABLE last_exit (
    vps    TEXT PRIMARY KEY REFERENCES vps (id) ON DELETE CASCADE,
    record TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshot (
    vps        TEXT NOT NULL REFERENCES vps (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (vps, name)
) STRICT, WITHOUT ROWID;

-- `info` is an ImageInfo as JSON, without aliases.
CREATE TABLE image (
    fingerprint TEXT PRIMARY KEY,
    info        TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE image_alias (
    alias       TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL REFERENCES image (fingerprint) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- A NetworkSpec as JSON.
CREATE TABLE network (
    name TEXT PRIMARY KEY,
    spec TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The journal of operations.
CREATE TABLE operation (
    id            TEXT PRIMARY KEY,
    kind          TEXT NOT NULL,
    target        TEXT NOT NULL,
    target_name   TEXT NOT NULL,
    request       TEXT NOT NULL,
    state         TEXT NOT NULL,
    step          INTEGER NOT NULL,
    percent       INTEGER NOT NULL,
    message       TEXT NOT NULL,
    error_reason  TEXT,
    error_text    TEXT,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX operation_unfinished ON operation (state) WHERE state IN ('running', 'undoing');

-- What the agent must remember of the host or of itself, such as where the search for a free address goes on.
CREATE TABLE setting (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
