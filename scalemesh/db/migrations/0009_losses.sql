-- How many attempts of a build were lost. The number of an attempt counts starts, and none is given twice: also not where
-- nobody knows whether a start came about.

ALTER TABLE deployment ADD COLUMN losses INTEGER NOT NULL DEFAULT 0;
UPDATE deployment SET losses = CASE state WHEN 'queued' THEN attempt ELSE max(attempt - 1, 0) END;
