package denizen_test

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/storetest"
	"github.com/stretchr/testify/require"
)

const rfc1123GMT = "Mon, 02 Jan 2006 15:04:05 GMT"

// request is a signed request with the secret that it is signed with.
type request struct {
	denizen.SignedRequest
	secret string
}

// signedNow returns a good request, not signed yet.
func signedNow(key, secret string) request {
	body := md5.Sum([]byte(`{"screenName":{"screenName":"Alice"}}`))
	return request{denizen.SignedRequest{
		AccessKey: key, Method: "POST", ContentType: "application/json", ContentMD5: base64.StdEncoding.EncodeToString(body[:]),
		Date: time.Now().UTC().Format(rfc1123GMT), Path: "/v1/users", Nonce: rand.Text(),
	}, secret}
}

// sign signs as the clients do.
func sign(r request) denizen.SignedRequest {
	secret, err := base64.StdEncoding.DecodeString(r.secret)
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha1.New, secret)
	mac.Write([]byte(r.Method + "\n" + r.ContentType + "\n" + r.ContentMD5 + "\n" + r.Date + "\n" + r.Path + "\n" + r.Nonce))
	r.Digest = base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return r.SignedRequest
}

// inSignedTime is inVirtualTime with an access key.
func inSignedTime(t *testing.T, test func(t *testing.T, d *denizen.Directory)) {
	t.Helper()
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		test(t, d)
	})
}

func signedKind(t testing.TB, d *denizen.Directory, r denizen.SignedRequest) error {
	t.Helper()
	by, err := d.AuthenticateSigned(context.Background(), r)
	if err != nil {
		require.Equal(t, denizen.Principal{}, by)
		return kindOf(t, err)
	}
	require.True(t, by.IsSystem())
	require.Equal(t, r.AccessKey, by.AccessKey())
	return nil
}

// The digest of these six lines under 32 times the letter a, made with
//
//	printf 'GET\nnull\n1B2M2Y8AsgTpgAmY7PhCfg==\nSat, 01 Jan 2000 00:00:00 GMT\n/v1/users/alice\nnonce-0001' |
//	openssl dgst -sha1 -mac HMAC -macopt hexkey:6161…61 -binary | base64
func TestSigned_ARequestIsSignedAsTheClientsSignIt(t *testing.T) {
	inSignedTime(t, func(t *testing.T, d *denizen.Directory) {
		require.NoError(t, signedKind(t, d, denizen.SignedRequest{
			AccessKey: "the-key-1", Digest: "ukTlLAxGapPTh2pzEr9U+QMrhdY=", Method: "GET", ContentType: "null",
			ContentMD5: "1B2M2Y8AsgTpgAmY7PhCfg==", Date: "Sat, 01 Jan 2000 00:00:00 GMT", Path: "/v1/users/alice", Nonce: "nonce-0001",
		}))
	})
}

func TestSigned_ASignedRequestIsGoodOnce(t *testing.T) {
	inSignedTime(t, func(t *testing.T, d *denizen.Directory) {
		r := sign(signedNow("the-key-1", secretA))
		require.NoError(t, signedKind(t, d, r))
		_, err := d.AuthenticateSigned(t.Context(), r)
		requireRefused(t, err, "AuthenticateSigned", denizen.ErrUnauthenticated, "nonce")
		// The nonce is used up, whatever else is signed with it.
		again := signedNow("the-key-1", secretA)
		again.Nonce, again.Path = r.Nonce, "/v1/other"
		require.Equal(t, denizen.ErrUnauthenticated, signedKind(t, d, sign(again)))
		again.Nonce = rand.Text()
		require.NoError(t, signedKind(t, d, sign(again)))
	})
}

func TestSigned_OfAThousandAtOnceWithOneNonceOneIsIn(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		// Dates of two minutes, which are kept apart, and still only one is in.
		r := signedNow("the-key-1", secretA)
		now := time.Now().UTC()
		var requests []denizen.SignedRequest
		for _, off := range []time.Duration{-20 * time.Second, 0, 20 * time.Second} {
			r.Date = now.Add(off).Format(rfc1123GMT)
			requests = append(requests, sign(r))
		}
		var in atomic.Int64
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				_, err := d.AuthenticateSigned(t.Context(), requests[i%len(requests)])
				if err == nil {
					in.Add(1)
				} else if e, ok := err.(*denizen.Error); !ok || e.Kind != denizen.ErrUnauthenticated || e.Field != "nonce" {
					t.Error(err)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, in.Load())
	})
}

func TestSigned_ANonceStaysUsedAcrossAReopening(t *testing.T) {
	overReopening(t, func(t *testing.T, open func(denizen.Options) *denizen.Directory) {
		d := open(denizen.Options{})
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		r := sign(signedNow("the-key-1", secretA))
		require.NoError(t, signedKind(t, d, r))
		require.NoError(t, d.Close())
		d = open(denizen.Options{})
		require.Equal(t, denizen.ErrUnauthenticated, signedKind(t, d, r))
	})
}

func TestSigned_ANonceBelongsToItsAccessKey(t *testing.T) {
	inSignedTime(t, func(t *testing.T, d *denizen.Directory) {
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-2", secretB))
		one, two := signedNow("the-key-1", secretA), signedNow("the-key-2", secretB)
		two.Nonce = one.Nonce
		require.NoError(t, signedKind(t, d, sign(one)))
		require.NoError(t, signedKind(t, d, sign(two)))
	})
}

func TestSigned_ANonceIsRefusedInTheMinutesBesideItsOwn(t *testing.T) {
	for _, off := range []time.Duration{-25 * time.Second, -24 * time.Second, -time.Second, time.Second, 24 * time.Second, 25 * time.Second} {
		inSignedTime(t, func(t *testing.T, d *denizen.Directory) {
			// Dates of all distances around the full minute that the clock is at.
			r := signedNow("the-key-1", secretA)
			require.NoError(t, signedKind(t, d, sign(r)))
			r.Date = time.Now().UTC().Add(off).Format(rfc1123GMT)
			require.Equal(t, denizen.ErrUnauthenticated, signedKind(t, d, sign(r)))
			// As late as its date is good.
			time.Sleep(25*time.Second + off)
			require.Equal(t, denizen.ErrUnauthenticated, signedKind(t, d, sign(r)))
		})
	}
}

// A nonce must be known for as long as any date that it was sent with is good: up to 50 s after
// it was used, across minutes and sweeps.
func TestSigned_ANonceIsRememberedForLongerThanItsDateIsGood(t *testing.T) {
	inSignedTime(t, func(t *testing.T, d *denizen.Directory) {
		for range 120 {
			r := signedNow("the-key-1", secretA)
			r.Date = time.Now().UTC().Add(25 * time.Second).Format(rfc1123GMT)
			signed := sign(r)
			require.NoError(t, signedKind(t, d, signed))
			time.Sleep(50 * time.Second)
			require.Equal(t, denizen.ErrUnauthenticated, signedKind(t, d, signed))
			time.Sleep(time.Second)
			require.Equal(t, denizen.ErrExpired, signedKind(t, d, signed))
		}
	})
}

func TestSigned_ADateIsGoodForTwentyFiveSecondsEitherWay(t *testing.T) {
	inSignedTime(t, func(t *testing.T, d *denizen.Directory) {
		for off, want := range map[time.Duration]error{
			0: nil, 25 * time.Second: nil, -25 * time.Second: nil, 26 * time.Second: denizen.ErrExpired, -26 * time.Second: denizen.ErrExpired,
			time.Hour: denizen.ErrExpired, -24 * time.Hour: denizen.ErrExpired, 200 * 365 * 24 * time.Hour: denizen.ErrExpired,
		} {
			r := signedNow("the-key-1", secretA)
			r.Date = time.Now().UTC().Add(off).Format(rfc1123GMT)
			require.Equal(t, want, signedKind(t, d, sign(r)), off)
		}
		time.Sleep(time.Millisecond) // to the millisecond
		r := signedNow("the-key-1", secretA)
		r.Date = time.Now().UTC().Add(-25 * time.Second).Format(rfc1123GMT)
		require.Equal(t, denizen.ErrExpired, signedKind(t, d, sign(r)))
	})
}

func TestSigned_ADateIsRFC1123InGMTOfAnyWeekday(t *testing.T) {
	inSignedTime(t, func(t *testing.T, d *denizen.Directory) {
		for date, want := range map[string]error{
			"Sat, 01 Jan 2000 00:00:00 GMT":        nil,
			"Sat, 01 Jan 2000 00:00:00 UTC":        nil,
			"Mon, 01 Jan 2000 00:00:00 GMT":        nil,
			"Saturday, 01 Jan 2000 00:00:00 GMT":   nil,
			"Sat, 1 Jan 2000 00:00:00 GMT":         denizen.ErrInvalid,
			"Sat, 01 jan 2000 00:00:00 GMT":        denizen.ErrInvalid,
			"Sat, 01 Jan 2000 00:00:00.0 GMT":      denizen.ErrInvalid,
			"Sat, 01 Jan 2000 00:00:00":            denizen.ErrInvalid,
			"Sat, 01 Jan 2000 00:00:00 gmt":        denizen.ErrInvalid,
			"Sat, 01 Jan 2000 00:00:00 CET":        denizen.ErrInvalid,
			"Sat, 01 Jan 2000 01:00:00 +0100":      denizen.ErrInvalid,
			"Sat, 01 Jan 2000 00:00:00 +0000":      denizen.ErrInvalid,
			"Sat, 01 Jan 2000 00:00:00 GMT ":       denizen.ErrInvalid,
			"Sat,  01 Jan 2000 00:00:00 GMT":       denizen.ErrInvalid,
			"01 Jan 2000 00:00:00 GMT":             denizen.ErrInvalid,
			"Sat, 32 Jan 2000 00:00:00 GMT":        denizen.ErrInvalid,
			"Sat, 31 Feb 2000 00:00:00 GMT":        denizen.ErrInvalid,
			"Sat, 01 Jan 2000 24:00:00 GMT":        denizen.ErrInvalid,
			"Sat, 01 Jan 2000 00:00:60 GMT":        denizen.ErrInvalid,
			"Sat, 01-Jan-00 00:00:00 GMT":          denizen.ErrInvalid,
			"2000-01-01T00:00:00Z":                 denizen.ErrInvalid,
			"946684800":                            denizen.ErrInvalid,
			"":                                     denizen.ErrInvalid,
			", GMT":                                denizen.ErrInvalid,
			"Sat, GMT":                             denizen.ErrInvalid,
			" GMT":                                 denizen.ErrInvalid,
			"Sat, 01 Jan 20000 00:00:00 GMT":       denizen.ErrInvalid,
			"Sat, 01 Jan -200 00:00:00 GMT":        denizen.ErrInvalid,
			"Sat, \u0660\u0661 Jan 2000 00:00 GMT": denizen.ErrInvalid,
		} {
			r := signedNow("the-key-1", secretA)
			r.Date = date
			_, err := d.AuthenticateSigned(t.Context(), sign(r))
			require.Equal(t, want, kindOf(t, err), date)
			if err != nil {
				requireRefused(t, err, "AuthenticateSigned", denizen.ErrInvalid, "date")
			}
		}
	})
}

func TestSigned_ANonceIsEightTo128VisibleCharacters(t *testing.T) {
	inSignedTime(t, func(t *testing.T, d *denizen.Directory) {
		for nonce, good := range map[string]bool{
			"12345678": true, strings.Repeat("n", 128): true, "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~": true,
			"1234567": false, strings.Repeat("n", 129): false, "": false, "1234 5678": false, "1234567\n": false, "12345678\r": false,
			"12345678\x00": false, "12345678\x7f": false, "nöncenönce": false, "12345678\xff": false,
		} {
			r := signedNow("the-key-1", secretA)
			r.Nonce = nonce
			_, err := d.AuthenticateSigned(t.Context(), sign(r))
			if good {
				require.NoError(t, err, nonce)
			} else {
				requireRefused(t, err, "AuthenticateSigned", denizen.ErrInvalid, "nonce")
			}
		}
	})
}

// forgeries are what may be changed of a signed request.
var forgeries = map[string]func(r *denizen.SignedRequest){
	"another method":         func(r *denizen.SignedRequest) { r.Method = "PUT" },
	"the method in small":    func(r *denizen.SignedRequest) { r.Method = strings.ToLower(r.Method) },
	"another content type":   func(r *denizen.SignedRequest) { r.ContentType = "null" },
	"no content type":        func(r *denizen.SignedRequest) { r.ContentType = "" },
	"another body":           func(r *denizen.SignedRequest) { r.ContentMD5 = "1B2M2Y8AsgTpgAmY7PhCfg==" },
	"another date":           func(r *denizen.SignedRequest) { r.Date = strings.Replace(r.Date, ":00 ", ":01 ", 1) },
	"the date as UTC":        func(r *denizen.SignedRequest) { r.Date = strings.Replace(r.Date, "GMT", "UTC", 1) },
	"another weekday":        func(r *denizen.SignedRequest) { r.Date = "Mon" + r.Date[3:] },
	"another path":           func(r *denizen.SignedRequest) { r.Path = "/v1/users/alice" },
	"a path that ends in /":  func(r *denizen.SignedRequest) { r.Path += "/" },
	"a path with a query":    func(r *denizen.SignedRequest) { r.Path += "?limit=1" },
	"an encoded path":        func(r *denizen.SignedRequest) { r.Path = "/v1/%75sers" },
	"another nonce":          func(r *denizen.SignedRequest) { r.Nonce += "x" },
	"an unknown key":         func(r *denizen.SignedRequest) { r.AccessKey = "the-key-9" },
	"no key":                 func(r *denizen.SignedRequest) { r.AccessKey = "" },
	"a key of another case":  func(r *denizen.SignedRequest) { r.AccessKey = "The-Key-1" },
	"another known key":      func(r *denizen.SignedRequest) { r.AccessKey = "the-key-2" },
	"no digest":              func(r *denizen.SignedRequest) { r.Digest = "" },
	"a digest cut short":     func(r *denizen.SignedRequest) { r.Digest = r.Digest[:27] },
	"a digest with more":     func(r *denizen.SignedRequest) { r.Digest += "=" },
	"a digest with a space":  func(r *denizen.SignedRequest) { r.Digest += " " },
	"a digest in hex":        func(r *denizen.SignedRequest) { r.Digest = strings.Repeat("0", 40) },
	"a digest in URL base64": func(r *denizen.SignedRequest) { r.Digest = strings.TrimRight(r.Digest, "=") + "_" },
	"a digest respelt":       func(r *denizen.SignedRequest) { r.Digest = r.Digest[:26] + string(r.Digest[26]+1) + "=" },
	// One text, other fields: a break moves from between two into one of them.
	"type and method": func(r *denizen.SignedRequest) { r.Method, r.ContentType = r.Method+"\n"+r.ContentType, r.ContentMD5 },
	"moved left": func(r *denizen.SignedRequest) {
		r.Method, r.ContentType, r.ContentMD5, r.Date = r.Method+"\n"+r.ContentType, r.ContentMD5, r.Date, r.Path
	},
	"moved right": func(r *denizen.SignedRequest) {
		r.Method, r.ContentType, r.ContentMD5 = "", r.Method, r.ContentType+"\n"+r.ContentMD5
	},
}

func TestSigned_AChangedRequestIsRefusedAndUsesNothingUp(t *testing.T) {
	for name, forge := range forgeries {
		t.Run(name, func(t *testing.T) {
			inSignedTime(t, func(t *testing.T, d *denizen.Directory) {
				require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-2", secretB))
				r := sign(signedNow("the-key-1", secretA))
				forged := r
				forge(&forged)
				require.NotEqual(t, r, forged)
				kind := signedKind(t, d, forged)
				require.Contains(t, []error{denizen.ErrUnauthenticated, denizen.ErrInvalid}, kind)
				if !strings.Contains(name, "moved") && name != "type and method" {
					require.Equal(t, denizen.ErrUnauthenticated, kind)
				}
				require.NoError(t, signedKind(t, d, r))
			})
		})
	}
}

// Two requests whose six lines are one text, with a break inside a field, are both refused,
// though the secret signed them.
func TestSigned_NoFieldHoldsALineBreak(t *testing.T) {
	inSignedTime(t, func(t *testing.T, d *denizen.Directory) {
		for _, broken := range []func(r *request){
			func(r *request) { r.Method = "POST\nx" },
			func(r *request) { r.ContentType = "application/json\nx" },
			func(r *request) { r.ContentMD5 += "\nx" },
			func(r *request) { r.Date = "Sat\n, " + r.Date[5:] },
			func(r *request) { r.Path = "/v1/users\n/v1" },
			func(r *request) { r.Path = "/v1/users\r" },
		} {
			r := signedNow("the-key-1", secretA)
			broken(&r)
			require.Equal(t, denizen.ErrUnauthenticated, signedKind(t, d, sign(r)))
		}
		// One text: a path that swallows a break, and a date that does.
		date := time.Now().UTC().Format(rfc1123GMT)
		one, two := signedNow("the-key-1", secretA), signedNow("the-key-1", secretA)
		two.Nonce = one.Nonce
		one.Date, one.Path = date, "Sat, "+date[5:]+"\n/v1"
		two.Date, two.Path = date+"\nSat, "+date[5:], "/v1"
		require.Equal(t, sign(one).Digest, sign(two).Digest)
		require.Equal(t, denizen.ErrUnauthenticated, signedKind(t, d, sign(one)))
		require.Equal(t, denizen.ErrInvalid, signedKind(t, d, sign(two)))
	})
}

func TestSigned_ARefusedRequestWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		d := newOver(t, s, denizen.Options{})
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-2", secretB))
		before := invariant.Of(t, s)
		for name, forge := range forgeries {
			r := sign(signedNow("the-key-1", secretA))
			forge(&r)
			require.Error(t, signedKind(t, d, r), name)
		}
		late := signedNow("the-key-1", secretA)
		late.Date = time.Now().UTC().Add(-time.Minute).Format(rfc1123GMT)
		require.Error(t, signedKind(t, d, sign(late)))
		require.Equal(t, before, invariant.Of(t, s))
	})
}

func TestSigned_ARequestIsRefusedWhenItsNonceCannotBeKept(t *testing.T) {
	for fault, kind := range map[storetest.Fault]error{
		storetest.Before: denizen.ErrUnavailable, storetest.Applied: denizen.ErrOutcomeUnknown, storetest.Withheld: denizen.ErrOutcomeUnknown,
	} {
		fail := storetest.None
		var s store.Store = storetest.Faulty(memory.New(), func(c storetest.Call) storetest.Fault {
			if c.Method == "Commit" {
				return fail
			}
			return storetest.None
		})
		d := newOver(t, s, denizen.Options{})
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		r := sign(signedNow("the-key-1", secretA))
		fail = fault
		require.Equal(t, kind, signedKind(t, d, r))
		fail = storetest.None
		again := signedKind(t, d, r)
		if fault == storetest.Applied {
			require.Equal(t, denizen.ErrUnauthenticated, again)
		} else {
			require.NoError(t, again)
		}
	}
}
