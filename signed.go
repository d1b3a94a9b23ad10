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

// SignedRequest is what a request signed with an access key says of itself. The digest is
// the base64 of HMAC-SHA1, keyed with the decoded secret, over the method in capitals, the
// content type, the Content-MD5, the date, the path and the nonce, each on a line.
type SignedRequest struct {
	AccessKey   string
	Digest      string
	Method      string
	ContentType string // "application/json", or "null" where the method has no body
	ContentMD5  string // already compared with the body by the caller
	Date        string // RFC 1123, in GMT or UTC; the weekday is not looked at
	Path        string
	Nonce       string // 8 to 128 visible ASCII characters
}

// SignedWindow is how far the date of a signed request may be from now, either way.
const SignedWindow = 25 * time.Second

// AuthenticateSigned answers .system for a request signed with an access key, once: the
// nonce is used up, durably, before the answer, so each call is a commit to the store. A
// request with a bad digest, an unknown key or a nonce that was used is ErrUnauthenticated,
// one whose date is out of SignedWindow ErrExpired, and one whose nonce or date breaks its
// rule ErrInvalid. A request that is refused uses nothing up.
func (d *Directory) AuthenticateSigned(ctx context.Context, r SignedRequest) (by Principal, err error) {
	defer wrapOp("AuthenticateSigned", &err)
	k, proof, err := d.accessKey(ctx, r.AccessKey)
	if err != nil {
		return Principal{}, err
	}
	if len(r.Nonce) < 8 || len(r.Nonce) > 128 || strings.ContainsFunc(r.Nonce, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return Principal{}, invalid("nonce", "must be 8 to 128 visible ASCII characters")
	}
	date, ok := parseDate(r.Date)
	if !ok {
		return Principal{}, invalid("date", "must be an RFC 1123 date in GMT")
	}
	mac := hmac.New(sha1.New, proof.hmacKey())
	mac.Write([]byte(strings.Join([]string{r.Method, r.ContentType, r.ContentMD5, r.Date, r.Path, r.Nonce}, "\n")))
	digest := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	// A line break inside a field would let two requests share one text.
	joined := strings.ContainsAny(r.Method+r.ContentType+r.ContentMD5+r.Date+r.Path, "\n\r")
	if subtle.ConstantTimeCompare([]byte(digest), []byte(r.Digest)) != 1 || joined || k == nil {
		return Principal{}, newError(ErrUnauthenticated, "digest", "")
	}
	now := d.clock.Now()
	if off := now - date.UnixMilli(); off > SignedWindow.Milliseconds() || off < -SignedWindow.Milliseconds() {
		return Principal{}, newError(ErrExpired, "date", "is too far from now")
	}
	by = Principal{kind: kindSystem, accessKey: k.Key, keyIncarnation: k.Incarnation}
	if err := d.spendNonce(ctx, by, date.Unix()/60, r.Nonce); err != nil {
		return Principal{}, err
	}
	d.lastUses.note(d, noTarget, record.LastUse{ID: k.Incarnation, At: now, Action: "Signed"})
	return by, nil
}

// parseDate reads an RFC 1123 date whose weekday may be any.
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

// spendNonce uses a nonce up. It lies under the minute of its date, and a date is good
// for less than a minute, so a nonce absent from its minute and the ones beside it was
// not used in any request that could still be good.
func (d *Directory) spendNonce(ctx context.Context, by Principal, minute int64, nonce string) error {
	d.background.start()
	key := record.NonceKey(minute, by.accessKey, nonce)
	keys := []store.Key{
		record.NonceKey(minute-1, by.accessKey, nonce), key, record.NonceKey(minute+1, by.accessKey, nonce),
	}
	return d.writeBackground(ctx, func(tx *txn.Tx) error {
		// The commit is the look-up. Only one that was refused is asked for what was in its way: a
		// nonce, or damage.
		if tx.Retrying() {
			entries, err := tx.Read(keys...)
			if err != nil {
				return err
			}
			if err := d.checkDamage(keys, entries); err != nil {
				return err
			}
			if slices.ContainsFunc(entries, func(e *txn.Entry) bool { return e.Value() != nil }) {
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
