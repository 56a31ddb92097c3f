-- Where the blobs live, and the move to another store that is under way or was stopped. One row each, at most.

CREATE TABLE store_home (
    only_row  INTEGER PRIMARY KEY CHECK (only_row = 1),
    kind      TEXT NOT NULL,
    since_at  INTEGER NOT NULL,
    former    TEXT,                           -- another kind that the config named when they moved, until it follows
    leftovers TEXT                            -- the kind whose staging area may hold uploads from before the move
) STRICT;

CREATE TABLE store_move (
    only_row       INTEGER PRIMARY KEY CHECK (only_row = 1),
    target         TEXT NOT NULL,             -- kind
    is_stopped     INTEGER NOT NULL DEFAULT 0,  -- by a person, or because it cannot end; else a restart goes on with it
    despite_damage INTEGER NOT NULL,
    copied_to      TEXT,                      -- every blob up to this digest was looked at; NULL: none yet
    started_at     INTEGER NOT NULL
) STRICT;
