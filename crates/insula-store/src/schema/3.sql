-- Version 3: a VPS may have several ranges of ids in a row, one line for each. This file is never edited.

ALTER TABLE id_range RENAME TO id_range_2;

-- Who has which user and group ids, by ranges of 65,536 that are aligned to each other, so that equal starts mean overlap.
CREATE TABLE id_range (
    start INTEGER PRIMARY KEY,
    vps   TEXT NOT NULL REFERENCES vps (id) ON DELETE CASCADE
) STRICT;
INSERT INTO id_range SELECT start, vps FROM id_range_2;
DROP TABLE id_range_2;
CREATE INDEX id_range_of_vps ON id_range (vps);
