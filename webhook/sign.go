package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of the scheme, in the form of the keys of http.Header.
const (
	headerID        = "Webhook-Id"
	headerTime      = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

const (
	secretPrefix = "whsec_"
	minSecret    = 24 // bytes, as the scheme says
	maxSecret    = 64
	tolerance    = 300  // seconds
	maxSignature = 4096 // bytes of the header, which is room for forty
)

// ErrUnverified says that a request was not signed with the secret, or not lately.
var ErrUnverified = errors.New("webhook: the request is not verified")

// NewSecret returns a new secret for [Endpoint] and [Verify]: whsec_ and 32 random bytes as base64.
func NewSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return secretPrefix + base64.StdEncoding.EncodeToString(b[:])
}

// keyOf returns the key that the text of a secret holds. Its error does not hold the text.
func keyOf(secret string) ([]byte, error) {
	text, ok := strings.CutPrefix(secret, secretPrefix)
	key, _ := base64.StdEncoding.DecodeString(text)
	canonical := base64.StdEncoding.EncodeToString(key) == text
	if !ok || !canonical || len(key) < minSecret || len(key) > maxSecret {
		return nil, errors.New("webhook: a secret must be whsec_ and 24 to 64 bytes as base64")
	}
	return key, nil
}

// signature returns one signature of a request, with its version.
func signature(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Verify checks a request that was received: its headers, and its body as it came. It returns nil
// if the request was signed with the secret at most five minutes before or after now. Otherwise it
// returns [ErrUnverified], or another error if the secret is none. While a secret is replaced a
// receiver tries the new one and then the old one.
//
// Bound the body before it is read: [Post] sends at most [MaxBody] bytes. A request may come twice,
// with the same webhook-id and the same body.
func Verify(secret string, header http.Header, body []byte, now time.Time) error {
	key, err := keyOf(secret)
	if err != nil {
		return err
	}
	id, timestamp := single(header, headerID), single(header, headerTime)
	signatures := single(header, headerSignature)
	if id == "" || strings.Contains(id, ".") { // a dot would let bytes move between id and body
		return unverified("it has no webhook-id, or several")
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || strconv.FormatInt(seconds, 10) != timestamp {
		return unverified("its webhook-timestamp is not one number of seconds")
	}
	if age := now.Unix() - seconds; seconds < 0 || age > tolerance || age < -tolerance {
		return unverified("its webhook-timestamp is more than five minutes away")
	}
	if len(signatures) > maxSignature {
		return unverified("its webhook-signature is too long")
	}
	want := []byte(signature(key, id, timestamp, body))
	found := 0
	for one := range strings.SplitSeq(signatures, " ") {
		found |= subtle.ConstantTimeCompare([]byte(one), want)
	}
	if found == 0 {
		return unverified("it has no signature with this secret")
	}
	return nil
}

func unverified(why string) error { return fmt.Errorf("%w: %s", ErrUnverified, why) }

// single returns the value of a header that is given once, or "".
func single(header http.Header, name string) string {
	if values := header[name]; len(values) == 1 {
		return values[0]
	}
	return ""
}
