package webhook

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	testSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherSecret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

// The vector is of the libraries of the scheme.
const (
	vectorID   = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime = 1614265330
	vectorBody = `{"test": 2432232314}`
	vectorSign = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func vector() http.Header {
	return http.Header{
		"Webhook-Id": {vectorID}, "Webhook-Timestamp": {fmt.Sprint(vectorTime)}, "Webhook-Signature": {vectorSign},
	}
}

func TestVerify_TakesWhatOthersSign(t *testing.T) {
	require.NoError(t, Verify(testSecret, vector(), []byte(vectorBody), time.Unix(vectorTime, 0)))
}

func TestVerify_TakesOneOfSeveralSignatures(t *testing.T) {
	for _, signatures := range []string{
		"v1,AAAA " + vectorSign, vectorSign + " v1,AAAA", "v1a,abc v2,x  " + vectorSign, vectorSign + " ",
	} {
		h := vector()
		h.Set("webhook-signature", signatures)
		require.NoError(t, Verify(testSecret, h, []byte(vectorBody), time.Unix(vectorTime, 0)), signatures)
	}
}

func TestVerify_TakesFiveMinutes(t *testing.T) {
	for seconds, verified := range map[int64]bool{-301: false, -300: true, 300: true, 301: false, -vectorTime: false, 1 << 60: false} {
		err := Verify(testSecret, vector(), []byte(vectorBody), time.Unix(vectorTime+seconds, 0))
		require.Equal(t, verified, err == nil, seconds)
	}
}

func TestVerify_RefusesWhatIsChanged(t *testing.T) {
	for name, change := range map[string]func(h http.Header, body *string){
		"the body":               func(_ http.Header, body *string) { *body += " " },
		"the id":                 func(h http.Header, _ *string) { h.Set("webhook-id", "msg_other") },
		"the time":               func(h http.Header, _ *string) { h.Set("webhook-timestamp", fmt.Sprint(vectorTime+1)) },
		"the time's spelling":    func(h http.Header, _ *string) { h.Set("webhook-timestamp", fmt.Sprintf("+%d", vectorTime)) },
		"no id":                  func(h http.Header, _ *string) { h.Del("webhook-id") },
		"two ids":                func(h http.Header, _ *string) { h.Add("webhook-id", vectorID) },
		"two times":              func(h http.Header, _ *string) { h.Add("webhook-timestamp", fmt.Sprint(vectorTime)) },
		"two lists":              func(h http.Header, _ *string) { h.Add("webhook-signature", vectorSign) },
		"no signature":           func(h http.Header, _ *string) { h.Set("webhook-signature", "") },
		"another version":        func(h http.Header, _ *string) { h.Set("webhook-signature", "v2"+vectorSign[2:]) },
		"a signature's spelling": func(h http.Header, _ *string) { h.Set("webhook-signature", strings.TrimSuffix(vectorSign, "=")) },
		"too many signatures": func(h http.Header, _ *string) {
			h.Set("webhook-signature", strings.Repeat(vectorSign+" ", 1000))
		},
		"bytes moved": func(h http.Header, body *string) {
			h.Set("webhook-id", vectorID+"."+fmt.Sprint(vectorTime))
			head, rest, _ := strings.Cut(*body, " ")
			h.Set("webhook-timestamp", head)
			*body = rest
		},
	} {
		h, body := vector(), vectorBody
		change(h, &body)
		require.ErrorIs(t, Verify(testSecret, h, []byte(body), time.Unix(vectorTime, 0)), ErrUnverified, name)
	}
	require.ErrorIs(t, Verify(otherSecret, vector(), []byte(vectorBody), time.Unix(vectorTime, 0)), ErrUnverified)
}

// A dot in the id would let a part of the id be taken for the time, or a part of the body.
func TestVerify_RefusesAnIDWithADot(t *testing.T) {
	key, err := keyOf(testSecret)
	require.NoError(t, err)
	h := vector()
	h.Set("webhook-id", "msg.1")
	h.Set("webhook-signature", signature(key, "msg.1", fmt.Sprint(vectorTime), []byte(vectorBody)))
	require.ErrorIs(t, Verify(testSecret, h, []byte(vectorBody), time.Unix(vectorTime, 0)), ErrUnverified)
}

func TestVerify_ASecretThatIsNoneIsNoRefusal(t *testing.T) {
	for _, secret := range []string{
		"", "whsec_", "whsec_c2hvcnQ=", testSecret[6:], testSecret + "!", testSecret + "\n",
		"whsec_" + strings.Repeat("AAAA", 22),
	} {
		err := Verify(secret, vector(), []byte(vectorBody), time.Unix(vectorTime, 0))
		require.Error(t, err, secret)
		require.NotErrorIs(t, err, ErrUnverified, secret)
		if len(secret) > 6 {
			require.NotContains(t, err.Error(), secret[6:])
		}
	}
}

func TestNewSecret_IsASecretAndEachTimeAnother(t *testing.T) {
	one, two := NewSecret(), NewSecret()
	require.NotEqual(t, one, two)
	key, err := keyOf(one)
	require.NoError(t, err)
	require.Len(t, key, 32)
}

// What is verified is what was signed: nothing that a fuzzer makes of it passes.
func FuzzVerify(f *testing.F) {
	f.Add(vectorID, fmt.Sprint(vectorTime), vectorSign, []byte(vectorBody), int64(vectorTime))
	f.Add(vectorID, fmt.Sprint(vectorTime), "v1,AAAA  v1a,x "+vectorSign, []byte(vectorBody), int64(vectorTime+300))
	f.Add("msg.1", "-5", "v1,", []byte(nil), int64(0))
	f.Add("", "99999999999999999999", strings.Repeat(" ", 5000), []byte("."), int64(-1<<63))
	f.Fuzz(func(t *testing.T, id, timestamp, signatures string, body []byte, now int64) {
		h := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {signatures}}
		if err := Verify(testSecret, h, body, time.Unix(now, 0)); err == nil {
			require.Equal(t, vectorID, id)
			require.Equal(t, fmt.Sprint(vectorTime), timestamp)
			require.Equal(t, vectorBody, string(body))
			require.Contains(t, strings.Split(signatures, " "), vectorSign)
			require.LessOrEqual(t, max(now-vectorTime, vectorTime-now), int64(300))
		}
		// And whatever is signed here is verified.
		key, err := keyOf(testSecret)
		require.NoError(t, err)
		if id == "" || strings.Contains(id, ".") || now < 0 || now > 1<<50 {
			return
		}
		h = http.Header{
			"Webhook-Id": {id}, "Webhook-Timestamp": {fmt.Sprint(now)},
			"Webhook-Signature": {signature(key, id, fmt.Sprint(now), body)},
		}
		require.NoError(t, Verify(testSecret, h, bytes.Clone(body), time.Unix(now, 0)))
	})
}
