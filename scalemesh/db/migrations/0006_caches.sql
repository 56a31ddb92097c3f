-- What builds keep for later builds: archives in the blob store, each held by `cache:<id>`.

CREATE TABLE cache (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id     TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    scope          TEXT NOT NULL,             -- whose builds wrote it: production, or branch:<name>
    kind           TEXT NOT NULL,             -- modules, dependencies or framework
    key            TEXT NOT NULL,
    sha256         TEXT NOT NULL,
    size_bytes     INTEGER NOT NULL,
    unpacked_bytes INTEGER NOT NULL,
    seconds        REAL NOT NULL,             -- what the work took that it spares
    is_whole       INTEGER NOT NULL DEFAULT 0,  -- its bytes are in the store; else it is being kept, or that was cut off
    made_at        INTEGER NOT NULL,
    used_at        INTEGER NOT NULL
) STRICT;
CREATE INDEX cache_by_project ON cache (project_id, kind, scope);
CREATE INDEX cache_by_use ON cache (used_at);

ALTER TABLE deployment ADD COLUMN uses_cache INTEGER NOT NULL DEFAULT 1;  -- 0: its build takes over nothing of earlier ones
