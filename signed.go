package denizen

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// SignedRequest is a request that is signed with an access key. Digest is the base64 of an
// HMAC-SHA1 whose key is the decoded secret. It covers the method in capitals, the content type,
// the Content-MD5, the date, the path and the nonce, joined by line feeds.
type SignedRequest struct {
	AccessKey   string
	Digest      string
	Method      string
	ContentType string // "application/json", or "null" where the method has no body
	ContentMD5  string // the caller has compared it with the body
	Date        string // RFC 1123, in GMT or UTC; the weekday is ignored
	Path        string
	Nonce       string // 8 to 128 visible ASCII characters
}

// SignedWindow is how far the date of a signed request may be from now, in both directions.
const SignedWindow = 25 * time.Second

// AuthenticateSigned returns .system for a request that is signed with an access key. Each request
// is good for one call: its nonce is used up, durably, before the call returns. So each call is a
// commit.
//
// A bad digest, an unknown key or a nonce that was used before is [ErrUnauthenticated]. A date that
// is not within [SignedWindow] is [ErrExpired]. A nonce or date of a wrong form is [ErrInvalid]. A
// refused request uses nothing up.
func (d *Directory) AuthenticateSigned(
	ctx context.Context, r SignedRequest,
) (by Principal, err error) {
	defer d.trace(&ctx, "AuthenticateSigned", &by).end(&err)
	k, proof, err := d.accessKey(ctx, r.AccessKey)
	if err != nil {
		return Principal{}, err
	}
	hidden := func(c rune) bool { return c <= ' ' || c > '~' }
	if len(r.Nonce) < 8 || len(r.Nonce) > 128 || strings.ContainsFunc(r.Nonce, hidden) {
		return Principal{}, invalid("nonce", "must be 8 to 128 visible ASCII characters")
	}
	date, ok := parseDate(r.Date)
	if !ok {
		return Principal{}, invalid("date", "must be an RFC 1123 date in GMT")
	}
	lines := []string{r.Method, r.ContentType, r.ContentMD5, r.Date, r.Path, r.Nonce}
	mac := hmac.New(sha1.New, proof.hmacKey())
	mac.Write([]byte(strings.Join(lines, "\n")))
	digest := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	// A line break inside a field would let two requests share one text.
	joined := strings.ContainsAny(r.Method+r.ContentType+r.ContentMD5+r.Date+r.Path, "\n\r")
	if subtle.ConstantTimeCompare([]byte(digest), []byte(r.Digest)) != 1 || joined || k == nil {
		return Principal{}, newError(ErrUnauthenticated, "digest", "")
	}
	now, window := d.clock.Now(), SignedWindow.Milliseconds()
	if off := now - date.UnixMilli(); off > window || off < -window {
		return Principal{}, newError(ErrExpired, "date", "is too far from now")
	}
	by = Principal{kind: kindSystem, accessKey: k.Key, keyIncarnation: k.Incarnation}
	if err := d.spendNonce(ctx, by, date.Unix()/60, r.Nonce); err != nil {
		return Principal{}, err
	}
	d.lastUses.note(d, noTarget, record.LastUse{ID: k.Incarnation, At: now, Action: "Signed"})
	return by, nil
}

// parseDate parses an RFC 1123 date with any weekday.
func parseDate(s string) (time.Time, bool) {
	_, rest, ok := strings.Cut(s, ", ")
	if !ok || (!strings.HasSuffix(rest, " GMT") && !strings.HasSuffix(rest, " UTC")) {
		return time.Time{}, false
	}
	const layout = "02 Jan 2006 15:04:05"
	rest = rest[:len(rest)-len(" GMT")]
	t, err := time.Parse(layout, rest)
	return t, err == nil && t.Format(layout) == rest // Parse takes fractions and any case
}

// spendNonce uses a nonce up, or refuses it. It is stored under the minute of its date. A date is
// accepted for less than a minute in all, so the nonce of a request that is still acceptable can
// only be in that minute or one beside it.
func (d *Directory) spendNonce(
	ctx context.Context, by Principal, minute int64, nonce string,
) error {
	d.background.start()
	key := record.NonceKey(minute, by.accessKey, nonce)
	keys := []store.Key{
		record.NonceKey(minute-1, by.accessKey, nonce), key,
		record.NonceKey(minute+1, by.accessKey, nonce),
	}
	return d.writeBackground(ctx, func(tx *txn.Tx) error {
		// The commit itself finds out whether the nonce is new. After it was refused, read why: for
		// a nonce, or for damage.
		if tx.Retrying() {
			entries, err := tx.Read(keys...)
			if err != nil {
				return err
			}
			if err := d.checkDamage(keys, entries); err != nil {
				return err
			}
			used := func(e *txn.Entry) bool { return e.Value() != nil }
			if slices.ContainsFunc(entries, used) {
				return newError(ErrUnauthenticated, "nonce", "was used before")
			}
		}
		for _, key := range keys {
			tx.Absent(key)
		}
		tx.Put(key, &record.Nonce{AccessKey: by.accessKey, Nonce: nonce})
		return nil
	})
}
