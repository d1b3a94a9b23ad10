package postgres

import (
	"fmt"
	"strings"
)

// few is the largest number of keys that are looked up without an array. PostgreSQL assumes ten
// elements for an array, and would plan anew each time for a shorter one.
const few = 8

// statements are the SQL texts, with the names of one schema filled in.
//
// A statement that looks up several keys does so one by one (LATERAL ... LIMIT 1). PostgreSQL plans
// it only once, often while the table is small, and must not choose to scan the whole table.
type statements struct {
	get, getMany, list, listKeys    string
	listJudged                      string          // listKeys, and whether each value is an object
	getFew                          [few + 1]string // by number of keys
	feedBounds, changes, changeSeqs string

	begin, lock, state, versions string
	under                        string
	drop, insert, put, emit      string
	sweep, advance, notify       string
}

func newStatements(n names) statements {
	in := func(sql string) string {
		return strings.NewReplacer(
			"{versions}", `ARRAY(SELECT coalesce((SELECT CASE WHEN jsonb_typeof(value) = 'object' AND version > 0 THEN version ELSE -1 END
				FROM `+n.quoted+`.records WHERE key = k.key), 0)
				FROM unnest($1::bytea[]) WITH ORDINALITY AS k(key, i) ORDER BY k.i)`,
			"{records}", n.quoted+".records",
			"{changes}", n.quoted+".changes",
			"{head}", n.quoted+".head",
		).Replace(sql)
	}
	s := statements{
		get: in(`SELECT version, value FROM {records} WHERE key = $1`),
		getMany: in(`SELECT k.i, r.version, r.value FROM unnest($1::bytea[]) WITH ORDINALITY AS k(key, i)
			CROSS JOIN LATERAL (SELECT version, value FROM {records} WHERE key = k.key LIMIT 1) r`),
		list: in(`SELECT key, version, value FROM {records} WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3`),
		listJudged: in(`SELECT key, version, jsonb_typeof(value) = 'object'
			FROM {records} WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3`),
		listKeys:   in(`SELECT key, version, true FROM {records} WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3`),
		feedBounds: in(`SELECT head, first FROM {head}`),
		changes: in(`SELECT h.head, h.first, c.seq, c.event FROM {head} h LEFT JOIN LATERAL
			(SELECT seq, event FROM {changes} WHERE seq > $1 AND $1 >= h.first - 1 ORDER BY seq LIMIT $2) c ON true`),

		changeSeqs: in(`SELECT h.head, h.first, c.seq, '{}'::jsonb FROM {head} h LEFT JOIN LATERAL
			(SELECT seq FROM {changes} WHERE seq > $1 AND $1 >= h.first - 1 ORDER BY seq LIMIT $2) c ON true`),

		// Explicit, because the role or the database may have another default isolation.
		begin: `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE`,
		// PostgreSQL evaluates FROM before it takes the lock. The timeouts end a session that holds
		// the lock and hears nothing more from its client. The last setting keeps commits durable
		// if the role has synchronous_commit off.
		lock: `SELECT pg_advisory_xact_lock($1) FROM (SELECT
			set_config('lock_timeout', $2, true),
			set_config('idle_in_transaction_session_timeout', $3, true),
			set_config('statement_timeout', $4, true),
			set_config('tcp_user_timeout', $4, true),
			set_config('plan_cache_mode', 'force_generic_plan', true),
			CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END
			OFFSET 0) settings`,
		state:    in(`SELECT head, first, {versions} FROM {head}`),
		versions: in(`SELECT {versions}`),
		under:    in(`SELECT EXISTS (SELECT 1 FROM {records} WHERE key >= $1 AND key < $2)`),
		drop: in(`DELETE FROM {records} WHERE ctid = ANY (ARRAY(SELECT r.ctid FROM unnest($1::bytea[]) AS k(key)
			CROSS JOIN LATERAL (SELECT ctid FROM {records} WHERE key = k.key LIMIT 1) r))`),
		insert: in(`INSERT INTO {records} (key, version, value)
			SELECT k, v, j::jsonb FROM unnest($1::bytea[], $2::bigint[], $3::text[]) AS t(k, v, j)`),
		put: in(`INSERT INTO {records} (key, version, value)
			SELECT k, v, j::jsonb FROM unnest($1::bytea[], $2::bigint[], $3::text[]) AS t(k, v, j)
			ON CONFLICT (key) DO UPDATE SET version = excluded.version, value = excluded.value`),
		emit: in(`INSERT INTO {changes} (seq, event) SELECT s, j::jsonb FROM unnest($1::bigint[], $2::text[]) AS t(s, j)`),
		sweep: in(`WITH gone AS (DELETE FROM {changes} WHERE ctid = ANY (ARRAY(
			SELECT ctid FROM {changes} WHERE seq >= $1 AND seq < $2 ORDER BY seq LIMIT $3)) RETURNING seq)
			SELECT count(*), coalesce(max(seq), 0) FROM gone`),
		advance: in(`UPDATE {head} SET head = $1, first = $2`),
		notify:  `SELECT pg_notify($1, '')`,
	}
	for n := 2; n <= few; n++ {
		var keys []string
		for i := range n {
			keys = append(keys, fmt.Sprintf("(%d, $%d::bytea)", i+1, i+1))
		}
		s.getFew[n] = in(`SELECT k.i, r.version, r.value FROM (VALUES ` + strings.Join(keys, ", ") + `) AS k(i, key)
			CROSS JOIN LATERAL (SELECT version, value FROM {records} WHERE key = k.key LIMIT 1) r`)
	}
	return s
}
