-- Where builds run, once the config may list several executors. A kind is a name of executor.kind.

ALTER TABLE deployment ADD COLUMN executor TEXT;      -- fixed when it was submitted; NULL: no build, or from before the choice
ALTER TABLE project ADD COLUMN executor TEXT;         -- NULL: the default, which is the first that the config lists
