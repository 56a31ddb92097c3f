-- What lies in the blob store and who needs it. A blob that nobody holds is collected; a project owns what its holders
-- hold. What was published before this migration is held for as long as its project is there.

CREATE TABLE blob (
    id         INTEGER PRIMARY KEY,
    sha256     TEXT NOT NULL UNIQUE,
    size_bytes INTEGER NOT NULL,
    state      INTEGER NOT NULL,              -- 0: on its way into the store; 1: there; 2: being removed, nobody may hold it
    unheld_at  INTEGER                        -- when it was first seen without a holder; NULL: it has one, or was not looked at
) STRICT;
CREATE INDEX blob_unheld ON blob (unheld_at) WHERE unheld_at IS NOT NULL;
CREATE INDEX blob_doomed ON blob (id) WHERE state = 2;

CREATE TABLE holder (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT NOT NULL UNIQUE,       -- dpl_…, window:prj_…, cache:…, former:prj_…
    project_id    TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    deployment_id TEXT REFERENCES deployment (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX holder_by_project ON holder (project_id);
CREATE INDEX holder_by_deployment ON holder (deployment_id) WHERE deployment_id IS NOT NULL;

CREATE TABLE hold (
    holder INTEGER NOT NULL REFERENCES holder (id) ON DELETE CASCADE,
    blob   INTEGER NOT NULL REFERENCES blob (id),
    PRIMARY KEY (holder, blob)
) STRICT, WITHOUT ROWID;
CREATE INDEX hold_by_blob ON hold (blob);

INSERT INTO holder (name, project_id) SELECT 'former:' || id, id FROM project;
INSERT INTO blob (sha256, size_bytes, state) SELECT sha256, max(size_bytes), 1 FROM project_blob GROUP BY sha256;
INSERT INTO hold (holder, blob)
    SELECT holder.id, blob.id FROM project_blob
    JOIN holder ON holder.name = 'former:' || project_blob.project_id JOIN blob ON blob.sha256 = project_blob.sha256;
CREATE TEMPORARY TABLE former AS
    SELECT project_id, listing AS sha256 FROM deployment WHERE listing IS NOT NULL
    UNION SELECT project_id, source_listing FROM deployment WHERE source_listing IS NOT NULL
    UNION SELECT project_id, manifest FROM deployment WHERE manifest IS NOT NULL
    UNION SELECT project_id, encodings FROM deployment WHERE encodings IS NOT NULL
    UNION SELECT id, asset_window FROM project WHERE asset_window IS NOT NULL;
INSERT OR IGNORE INTO blob (sha256, size_bytes, state) SELECT sha256, 0, 1 FROM former GROUP BY sha256;
INSERT OR IGNORE INTO hold (holder, blob)
    SELECT holder.id, blob.id FROM former
    JOIN holder ON holder.name = 'former:' || former.project_id JOIN blob ON blob.sha256 = former.sha256;
DROP TABLE former;
DROP TABLE project_blob;
