-- What is kept by hand and by rules, what a deployment that is gone has left outside of this database, and of what kind
-- a blob is, for those who look what uses the room.

ALTER TABLE project ADD COLUMN retention TEXT NOT NULL DEFAULT '{}';      -- JSON of what it has of its own
ALTER TABLE deployment ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;        -- by a person
ALTER TABLE deployment ADD COLUMN log_dropped INTEGER NOT NULL DEFAULT 0; -- its log's time was over

CREATE TABLE gone (
    deployment_id TEXT PRIMARY KEY,
    at            INTEGER                     -- when it was first swept up after; NULL: not yet
) STRICT, WITHOUT ROWID;
CREATE TRIGGER deployment_gone AFTER DELETE ON deployment BEGIN
    INSERT OR IGNORE INTO gone (deployment_id) VALUES (old.id);
END;

ALTER TABLE blob ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;              -- 0: file; 1: variant; 2: list; 3: window; 4: cache
UPDATE blob SET kind = 2 WHERE sha256 IN (
    SELECT listing FROM deployment UNION SELECT source_listing FROM deployment
    UNION SELECT manifest FROM deployment UNION SELECT encodings FROM deployment
);
UPDATE blob SET kind = 3 WHERE sha256 IN (SELECT asset_window FROM project);
