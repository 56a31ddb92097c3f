-- What visits need besides the manifest. Blobs named here are kept for as long as the row names them.

ALTER TABLE deployment ADD COLUMN encodings TEXT;     -- blob: compressed variants of its files; NULL: not made yet
ALTER TABLE deployment ADD COLUMN left_at INTEGER;    -- when it last ceased to be production; NULL: never, or purged
ALTER TABLE project ADD COLUMN asset_window TEXT;     -- blob: hash-named files of the deployments that left; NULL: none
CREATE INDEX deployment_unencoded ON deployment (sequence) WHERE state = 'ready' AND encodings IS NULL;
CREATE INDEX deployment_left ON deployment (project_id, left_at) WHERE left_at IS NOT NULL;
