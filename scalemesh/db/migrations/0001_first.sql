-- Times are integer milliseconds since 1970, UTC. Ids carry their prefix. JSON columns hold frozen values.

CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO counter (name, value) VALUES ('generation', 0);

CREATE TABLE user (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    password_hash TEXT,                       -- NULL: no password was set yet
    is_owner      INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL,
    served_at     INTEGER NOT NULL DEFAULT 0  -- when a build of theirs was last started: the queue's first key
) STRICT;

CREATE TABLE welcome (
    code_hash  TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE session (
    token_hash TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE token (
    id         TEXT PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    user_id    TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE project (
    id                TEXT PRIMARY KEY,
    name              TEXT NOT NULL UNIQUE,
    user_id           TEXT NOT NULL REFERENCES user (id),
    git_url           TEXT,                   -- NULL: fed by uploads only
    canonical_url     TEXT,                   -- git_url in its one normal spelling
    root_directory    TEXT NOT NULL DEFAULT '',
    production_branch TEXT,                   -- NULL: the repository's default branch, not known yet
    settings          TEXT NOT NULL DEFAULT '{}',
    pinned            INTEGER NOT NULL DEFAULT 0,  -- production was rolled back by hand: nothing goes live by itself
    created_at        INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX project_source ON project (canonical_url, root_directory) WHERE canonical_url IS NOT NULL;

CREATE TABLE deployment (
    sequence       INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL UNIQUE,
    project_id     TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    user_id        TEXT NOT NULL REFERENCES user (id),
    environment    TEXT NOT NULL CHECK (environment IN ('production', 'preview')),
    state          TEXT NOT NULL CHECK (state IN
        ('queued', 'building', 'publishing', 'ready', 'failed', 'canceled', 'superseded')),
    source_kind    TEXT NOT NULL CHECK (source_kind IN ('git', 'upload', 'prebuilt')),
    source_ready   INTEGER NOT NULL,          -- 0: an upload that has not been finished
    source_listing TEXT,                      -- blob: the uploaded source's file list
    git_url        TEXT,
    branch         TEXT,
    commit_sha     TEXT,
    commit_message TEXT,
    commit_author  TEXT,
    settings       TEXT NOT NULL,
    memory_bytes   INTEGER NOT NULL,
    place          INTEGER NOT NULL,          -- in the queue; a superseding deployment takes over the older one's
    passed_over_at INTEGER,                   -- since when others have started before it
    not_before     INTEGER NOT NULL DEFAULT 0,
    attempt        INTEGER NOT NULL DEFAULT 0,
    nonce          TEXT,                      -- of the builder that claimed this attempt
    lease_until    INTEGER,
    job            TEXT,                      -- the executor's words for finding the job again
    reported       TEXT,                      -- the failure that the builder told, until the job's end is known too
    listing        TEXT,                      -- blob: what the build made
    manifest       TEXT,                      -- blob: what is served
    framework      TEXT,
    reason         TEXT,
    message        TEXT NOT NULL DEFAULT '',
    created_at     INTEGER NOT NULL,
    started_at     INTEGER,
    finished_at    INTEGER
) STRICT;
CREATE INDEX deployment_by_project ON deployment (project_id, sequence);
CREATE INDEX deployment_active ON deployment (state) WHERE state IN ('queued', 'building', 'publishing');

CREATE TABLE alias (
    host          TEXT PRIMARY KEY,
    project_id    TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    kind          TEXT NOT NULL CHECK (kind IN ('production', 'branch', 'permalink', 'domain')),
    branch        TEXT,
    deployment_id TEXT REFERENCES deployment (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX alias_by_project ON alias (project_id);
CREATE INDEX alias_by_deployment ON alias (deployment_id);

CREATE TABLE project_blob (
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    sha256     TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (project_id, sha256)
) STRICT, WITHOUT ROWID;

CREATE TABLE variable (
    project_id  TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    environment TEXT NOT NULL CHECK (environment IN ('production', 'preview')),
    sealed      BLOB NOT NULL,                -- AES-GCM; project, environment and name are its associated data
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (project_id, name, environment)
) STRICT, WITHOUT ROWID;
