-- Views of the directory with plain columns, for a team that joins it with tables of its
-- own. The views, their columns and what these mean are kept from version to version; columns
-- may be added. The tables below the views, the function and the indexes are nobody else's.
--
-- A view shows everything there is, whoever asks: neither Options.MaySee nor the audience of
-- an attribute holds here. Nothing can be written through a view. One statement sees what was
-- committed before it began, but two see two states unless they share a transaction that is
-- REPEATABLE READ.
--
-- A view reads with the rights of its owner. So these are all that a role which only reads
-- needs of the schema, say denizen, and nothing on the tables:
--
--	GRANT USAGE ON SCHEMA denizen TO reader;
--	GRANT SELECT ON denizen.users, denizen.locators, denizen.attributes, denizen.presences TO reader;
--
-- Nothing keeps PostgreSQL from trying a condition of such a role's query on a record before
-- the view's own WHERE, but that it tries cheap ones first. So what a column is made of is
-- null for a record of another kind; that is what each CASE is for. A condition may learn
-- the ids of users without a row, such as those without locators. (A view that is a
-- security_barrier would keep those, too, but each join with it would read all users.)
--
-- Fast are conditions on user_id and joins by it, in each view. With 100,000 users and
-- 500,000 records in all, PostgreSQL 15 on two busy cores took 0.1 to 0.3 ms for one user
-- (Index Scan using records_user), 1 ms for 20 rows of a host's table joined with users,
-- locators and presences, and 25 ms for 1,000 (Nested Loop over the indexes). Any other
-- condition reads all users: 0.2 s for the one with an address, 1 s to count the users in
-- each state. To find users by their locators, ask the directory.
--
-- Names are not qualified: this is run with the directory's schema as search_path. Running
-- it again changes nothing.

-- The id of a user is what follows the letter in the keys of its records, and all of it ASCII
-- but backslash, which this encoding leaves as it is. The indexes are on the key so that
-- rewriting a record leaves them alone. That they are unique follows from the primary key;
-- it is said because the planner counts on one row a user then, and not on one in 200.
CREATE UNIQUE INDEX IF NOT EXISTS records_user ON records
	((CASE WHEN key >= 'u' AND key < 'v' THEN encode(substr(key, 2), 'escape') END))
	WHERE key >= 'u' AND key < 'v';
CREATE UNIQUE INDEX IF NOT EXISTS records_profile ON records
	((CASE WHEN key >= 'o' AND key < 'p' THEN encode(substr(key, 2), 'escape') END))
	WHERE key >= 'o' AND key < 'p';
CREATE UNIQUE INDEX IF NOT EXISTS records_devices ON records
	((CASE WHEN key >= 'p' AND key < 'q' THEN encode(substr(key, 2), 'escape') END))
	WHERE key >= 'p' AND key < 'q';

CREATE OR REPLACE VIEW users AS
SELECT r.user_id,
	r.value ->> 'incarnation' AS internal_id,
	r.value ->> 'screenName' AS screen_name,
	coalesce((r.value -> 'blocked')::boolean, false)
		AND coalesce(statement_timestamp() < to_timestamp((r.value -> 'blockedUntil')::float8 / 1000), true) AS blocked,
	to_timestamp((r.value -> 'created')::float8 / 1000) AS created_at,
	to_timestamp((r.value -> 'updated')::float8 / 1000) AS updated_at,
	r.version,
	CASE WHEN statement_timestamp() < to_timestamp((r.value -> 'blockedUntil')::float8 / 1000)
		THEN to_timestamp((r.value -> 'blockedUntil')::float8 / 1000) END AS blocked_until
FROM (
	SELECT key, version,
		CASE WHEN key >= 'u' AND key < 'v' THEN encode(substr(key, 2), 'escape') END AS user_id,
		CASE WHEN key >= 'u' AND key < 'v' THEN value END AS value
	FROM records
) r
WHERE r.key >= 'u' AND r.key < 'v';

CREATE OR REPLACE VIEW locators AS
SELECT CASE WHEN r.key >= 'u' AND r.key < 'v' THEN encode(substr(r.key, 2), 'escape') END AS user_id,
	l.id AS locator_id,
	l.type,
	CASE WHEN l.type = 'tele' THEN l.canonical
		WHEN l.type <> 'email' OR octet_length(l.raw) = length(l.raw) THEN l.raw
		ELSE split_part(l.raw, '@', 1) || '@' || split_part(l.canonical, '@', 2)
	END AS address,
	l.raw,
	l.canonical,
	l.status,
	coalesce(l.owned, false) AS owned,
	to_timestamp(l.added / 1000) AS added_at,
	to_timestamp(l.verified / 1000) AS verified_at
FROM records r
CROSS JOIN LATERAL jsonb_to_recordset(r.value -> 'locators')
	AS l(id text, type text, raw text, canonical text, status text, owned boolean, added float8, verified float8)
WHERE r.key >= 'u' AND r.key < 'v';

CREATE OR REPLACE VIEW attributes AS
SELECT CASE WHEN r.key >= 'o' AND r.key < 'p' THEN encode(substr(r.key, 2), 'escape') END AS user_id,
	a.key,
	a."contentType" AS content_type,
	a."contentEncoding" AS content_encoding,
	coalesce(a.value, '') AS value
FROM records r
CROSS JOIN LATERAL jsonb_to_recordset(r.value -> 'attributes')
	AS a(key text, "contentType" text, "contentEncoding" text, value text)
WHERE r.key >= 'o' AND r.key < 'p';

-- The presence at an instant, in Unix milliseconds, of a user with these devices: at most one
-- row. It is the arithmetic of internal/presence in SQL. That it is immutable is so of what
-- it says, though jsonb_to_recordset is only stable: it casts to nothing here that depends
-- on a setting.
CREATE OR REPLACE FUNCTION active_presence(devices jsonb, at_ms bigint)
RETURNS TABLE (state text, device text, since timestamptz, until timestamptz)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1 AS $$
	SELECT link.state, coalesce(d.name, ''),
		to_timestamp(link.since::float8 / 1000), to_timestamp(link.until::float8 / 1000)
	FROM jsonb_to_recordset(devices) AS d(name text, start bigint, beat bigint, chain jsonb)
	CROSS JOIN LATERAL (
		-- Heartbeats move when the first state ends, not when it began.
		SELECT begun.state, CASE WHEN begun.i = 1 THEN coalesce(d.start, 0) ELSE begun.since END AS since,
			begun.since + 1000 * begun.seconds AS until
		FROM (
			SELECT l.i, l.state, l.seconds::bigint, greatest(coalesce(d.start, 0), coalesce(d.beat, 0)) + 1000 * coalesce(sum(l.seconds)
				OVER (ORDER BY l.i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS since
			FROM ROWS FROM (jsonb_to_recordset(d.chain) AS (state text, seconds integer))
				WITH ORDINALITY AS l(state, seconds, i)
		) begun
		-- A state without seconds stays for good.
		WHERE begun.seconds IS NULL OR at_ms < begun.since + 1000 * begun.seconds
		ORDER BY begun.i
		LIMIT 1
	) link
	ORDER BY coalesce(array_position(ARRAY['mitter.up.Online', 'mitter.up.Away', 'mitter.up.Sleeping',
		'mitter.up.Missing', 'mitter.up.Offline'], link.state), 6), link.since DESC, coalesce(d.name, '') COLLATE "C"
	LIMIT 1
$$;

CREATE OR REPLACE VIEW presences AS
SELECT CASE WHEN r.key >= 'p' AND r.key < 'q' THEN encode(substr(r.key, 2), 'escape') END AS user_id,
	p.state, p.device, p.since, p.until
FROM records r
-- The clock is that of a statement, which is one instant for all rows. A volatile one would
-- keep the function from being planned as part of the query.
CROSS JOIN LATERAL active_presence(r.value -> 'devices',
	floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint) p
WHERE r.key >= 'p' AND r.key < 'q';

COMMENT ON VIEW users IS 'One row a user.';
COMMENT ON COLUMN users.user_id IS 'The id. It may be taken again by another user after the user is deleted.';
COMMENT ON COLUMN users.internal_id IS 'No other user ever has it, also when user_id is taken again.';
COMMENT ON COLUMN users.screen_name IS 'The name to be shown, 1 to 128 characters in NFC.';
COMMENT ON COLUMN users.blocked IS 'Whether the user may not come in when the statement begins, by the server''s clock.';
COMMENT ON COLUMN users.created_at IS 'When the user was created, to the millisecond.';
COMMENT ON COLUMN users.updated_at IS 'When the user or a locator of it was last changed, to the millisecond.';
COMMENT ON COLUMN users.version IS 'What the directory calls the version of the user: it changes with every write of it.';

COMMENT ON COLUMN users.blocked_until IS 'When the block of a blocked user ends by itself, or null if it does not. Why a user is blocked is not shown.';

COMMENT ON VIEW locators IS 'One row for each e-mail address, telephone number and locator of another type of a user, pending claims included.';
COMMENT ON COLUMN locators.user_id IS 'See users.';
COMMENT ON COLUMN locators.locator_id IS 'Names this locator of this user.';
COMMENT ON COLUMN locators.type IS 'email, tele or a type that the application registered.';
COMMENT ON COLUMN locators.address IS 'As it was given: deliver to this.';
COMMENT ON COLUMN locators.canonical IS 'What it is unique and looked up by. With owned, no two rows have the same type and canonical.';
COMMENT ON COLUMN locators.status IS 'Verified, Unverified, StatusNotProvided, VerificationPending or VerificationNotApplicable.';
COMMENT ON COLUMN locators.owned IS 'False for what a user merely claims: it may be somebody else''s.';
COMMENT ON COLUMN locators.added_at IS 'When it was added, to the millisecond.';
COMMENT ON COLUMN locators.verified_at IS 'When it was last set Verified, or null for never. It stays when another status is set.';

COMMENT ON VIEW attributes IS 'One row for each attribute of a user''s profile, whoever may see it in the directory.';
COMMENT ON COLUMN attributes.user_id IS 'See users.';
COMMENT ON COLUMN attributes.key IS 'The attribute''s key, once a user.';
COMMENT ON COLUMN attributes.content_type IS 'As it was set, or text/plain.';
COMMENT ON COLUMN attributes.content_encoding IS 'As it was set, or identity. Nothing is decoded here.';
COMMENT ON COLUMN attributes.value IS 'As it was set; it may be empty.';

COMMENT ON VIEW presences IS 'One row for each user with a presence when the statement begins, by the server''s clock: that of its best device. Heartbeats are stored up to Options.PresenceFlush later.';
COMMENT ON COLUMN presences.user_id IS 'See users.';
COMMENT ON COLUMN presences.state IS 'mitter.up.Online, Away, Sleeping, Missing, Offline or any other name.';
COMMENT ON COLUMN presences.device IS 'The device it is of; empty for the default one.';
COMMENT ON COLUMN presences.since IS 'When the state began: heartbeats leave it as it is. It may lie ahead by as much as clocks differ.';
COMMENT ON COLUMN presences.until IS 'When the state ends, or null if it stays until another is set. Heartbeats move it. Another state may follow then.';

COMMENT ON FUNCTION active_presence(jsonb, bigint) IS 'Part of the view presences; not for others.';

INSERT INTO migrations (version) VALUES (5);
