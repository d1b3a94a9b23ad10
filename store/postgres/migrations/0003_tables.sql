-- Names are not qualified: the file is run with the directory's schema as search_path.

CREATE TABLE migrations (
	version    integer PRIMARY KEY,
	applied_at timestamptz NOT NULL DEFAULT now()
);

-- Every record, under its key. version is the place of the commit that wrote it.
CREATE TABLE records (
	key     bytea PRIMARY KEY,
	version bigint NOT NULL,
	value   jsonb NOT NULL
);

-- The feed. What lies below head.first is forgotten and goes by and by.
CREATE TABLE changes (
	seq   bigint PRIMARY KEY,
	event jsonb NOT NULL
);

-- The one row that says where the store stands. Every commit rewrites it, which needs no
-- index entry as long as there is room on its page.
CREATE TABLE head (
	one   boolean PRIMARY KEY DEFAULT true CHECK (one),
	head  bigint NOT NULL,
	first bigint NOT NULL
) WITH (fillfactor = 10);

INSERT INTO head (head, first) VALUES (0, 1);
INSERT INTO migrations (version) VALUES (3);
