-- Version 4: steps have names and outputs, errors have a structure, an operation may be in doubt. This file is never edited.

ALTER TABLE operation ADD COLUMN step_names TEXT NOT NULL DEFAULT '[]'; -- a list of texts as JSON
ALTER TABLE operation ADD COLUMN outputs TEXT NOT NULL DEFAULT '{}'; -- by the name of a step, as JSON
-- A Failure as JSON. Code makes it of error_reason and error_text, and then removes these.
ALTER TABLE operation ADD COLUMN error TEXT;
DROP INDEX operation_unfinished;
CREATE INDEX operation_unfinished ON operation (state) WHERE state IN ('queued', 'running', 'undoing', 'in-doubt');
