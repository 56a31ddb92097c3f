-- Whether the uploads of a deployment that has come to its end are dropped, its last words said, its log closed.

ALTER TABLE deployment ADD COLUMN cleaned INTEGER NOT NULL DEFAULT 0;
UPDATE deployment SET cleaned = 1 WHERE finished_at IS NOT NULL;
CREATE INDEX deployment_unclean ON deployment (sequence) WHERE NOT cleaned;
