package webhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
)

// inVirtualTime runs a test with a directory of n users and a receiver.
func inVirtualTime(t *testing.T, n int, o denizen.Options, test func(t *testing.T, d *denizen.Directory, r *receiver)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := newMemory(t, o)
		newUsers(t, d, "early-user", n)
		test(t, d, &receiver{t: t})
	})
}

func TestPost_TellsEachEventInOrder(t *testing.T) {
	inVirtualTime(t, 600, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
		stop := r.posting(d, Endpoint{})
		synctest.Wait()
		newUsers(t, d, "late-user", 1)
		synctest.Wait()
		requireStopped(t, stop())
		var got []denizen.Seq
		for _, q := range r.requests() {
			require.LessOrEqual(t, len(q.events), 256)
			for _, e := range q.events {
				got = append(got, e.Sequence)
			}
		}
		all := feed(t, d)
		var want []denizen.Seq
		for _, e := range all {
			want = append(want, e.Seq)
		}
		require.Equal(t, want, got)
		last := r.requests()[len(r.requests())-1]
		require.Equal(t, "user.created", last.events[0].Kind)
		require.Equal(t, "late-user-000000", last.events[0].UserID.Identifier)
		require.Equal(t, all[len(all)-1].Cursor, last.cursor)
		require.Equal(t, last.cursor, consumer(t, d).Cursor)
		require.Equal(t, "application/json", last.header.Get("content-type"))
		require.Equal(t, 1, r.dials, "a connection is used again")
	})
}

func TestPost_EachSecretGivesASignature(t *testing.T) {
	inVirtualTime(t, 1, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
		stop := r.posting(d, Endpoint{Secrets: []string{otherSecret, testSecret}})
		synctest.Wait()
		requireStopped(t, stop())
		q := r.requests()[0]
		require.Len(t, strings.Split(q.header.Get("webhook-signature"), " "), 2)
		for _, secret := range []string{testSecret, otherSecret} {
			require.NoError(t, Verify(secret, q.header, []byte(q.body), time.Now()))
		}
		require.ErrorIs(t, Verify(NewSecret(), q.header, []byte(q.body), time.Now()), ErrUnverified)
	})
}

func TestPost_ARetryHasTheSameBytesAndIDButATimeOfItsOwn(t *testing.T) {
	inVirtualTime(t, 3, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
		r.answer = saying("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 5)
		stop := r.posting(d, Endpoint{})
		synctest.Wait()
		newUsers(t, d, "late-user", 3)
		time.Sleep(time.Minute)
		requireStopped(t, stop())
		all := r.requests()
		require.Len(t, all, 6, "after 1, 2, 4, 8 seconds, and then the new ones")
		for _, q := range all[1:5] {
			require.Equal(t, all[0].id, q.id)
			require.Equal(t, all[0].body, q.body)
			require.NotEqual(t, all[0].header.Get("webhook-timestamp"), q.header.Get("webhook-timestamp"))
		}
		require.NotEqual(t, all[0].id, all[5].id)
		require.Len(t, all[5].events, 3)
	})
}

func TestPost_ARetryAfterARestartHasTheSameBytesAndID(t *testing.T) {
	inVirtualTime(t, 3, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
		r.answer = saying("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 3)
		for range 3 {
			stop := r.posting(d, Endpoint{})
			synctest.Wait()
			requireStopped(t, stop())
			newUsers(t, d, fmt.Sprintf("late-user-%d", time.Now().Unix()), 1)
			time.Sleep(time.Hour)
		}
		all := r.requests()
		require.Len(t, all, 3+1)
		require.Equal(t, all[0].body, all[2].body)
		require.Equal(t, all[0].id, all[2].id)
		require.Len(t, all[3].events, 2)
	})
}

func TestPost_WhatIsSentAgainAfterAResetHasAnotherID(t *testing.T) {
	inVirtualTime(t, 3, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
		stop := r.posting(d, Endpoint{Kinds: []denizen.EventKind{denizen.EventUserCreated}})
		synctest.Wait()
		time.Sleep(time.Second)
		require.NoError(t, d.ResetConsumer(t.Context(), system, "partner", ""))
		synctest.Wait()
		requireStopped(t, stop())
		all := r.requests()
		require.Len(t, all, 2)
		require.Equal(t, all[0].events, all[1].events)
		require.NotEqual(t, all[0].id, all[1].id)
	})
}

func TestPost_OnlyTheKindsThatAreWantedAreTold(t *testing.T) {
	inVirtualTime(t, 300, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
		stop := r.posting(d, Endpoint{Kinds: []denizen.EventKind{denizen.EventUserBlocked}})
		synctest.Wait()
		require.Empty(t, r.requests())
		require.Equal(t, feed(t, d)[300].Cursor, consumer(t, d).Cursor, "the others are handled")
		_, err := d.BlockUser(t.Context(), system, "early-user-000007", denizen.Block{})
		require.NoError(t, err)
		newUsers(t, d, "late-user", 1)
		synctest.Wait()
		requireStopped(t, stop())
		require.Len(t, r.requests(), 1)
		require.Len(t, r.requests()[0].events, 1)
		require.Equal(t, "user.blocked", r.requests()[0].events[0].Kind)
	})
}

func TestPost_OtherKindsGiveARetryAnotherID(t *testing.T) {
	inVirtualTime(t, 3, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
		r.answer = saying("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 2)
		for _, kinds := range [][]denizen.EventKind{nil, {denizen.EventUserCreated}} {
			stop := r.posting(d, Endpoint{Kinds: kinds})
			synctest.Wait()
			requireStopped(t, stop())
		}
		all := r.requests()
		require.Len(t, all, 2)
		require.Len(t, all[0].events, 4)
		require.Len(t, all[1].events, 3)
		require.NotEqual(t, all[0].id, all[1].id)
	})
}

func TestPost_WhoComesTooLateIsToldAsSuchWithTheSameBytesAndGoesOn(t *testing.T) {
	inVirtualTime(t, 1, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
		r.answer = func(n int, c net.Conn) {
			if n == 1 || n > 4 {
				_, _ = io.WriteString(c, ok)
			} else {
				_, _ = io.WriteString(c, "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
			}
		}
		run := func() {
			stop := r.posting(d, Endpoint{Kinds: []denizen.EventKind{denizen.EventUserCreated}})
			synctest.Wait()
			requireStopped(t, stop())
			time.Sleep(time.Second)
		}
		run()
		newUsers(t, d, "late-user", 5)
		run()
		all := feed(t, d)
		require.NoError(t, d.TrimFeed(t.Context(), system, all[4].Seq)) // what was begun is forgotten
		run()
		newUsers(t, d, "later-user", 2)
		run()
		run()
		got := r.requests()
		require.Len(t, got, 6)
		require.Len(t, got[1].events, 5)
		for _, q := range got[2:5] {
			require.Equal(t, got[2].body, q.body)
			require.Equal(t, got[2].id, q.id)
			require.Equal(t, []told{{Kind: "missed"}}, q.events)
			require.Equal(t, all[6].Cursor, q.cursor)
		}
		require.NotEqual(t, got[1].id, got[2].id)
		require.Len(t, got[5].events, 2)
	})
}

func TestPost_WhatItIsStuckAtCanBeSkipped(t *testing.T) {
	inVirtualTime(t, 3, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
		r.answer = saying("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", 9)
		stop := r.posting(d, Endpoint{})
		time.Sleep(130 * time.Second)
		require.Len(t, r.requests(), 8)
		stuck := consumer(t, d).Stuck
		require.Equal(t, feed(t, d)[3].Cursor, stuck)
		require.NoError(t, d.ResetConsumer(t.Context(), system, "partner", stuck))
		newUsers(t, d, "late-user", 1)
		time.Sleep(2 * time.Minute)
		requireStopped(t, stop())
		require.Len(t, r.requests(), 9)
		require.Equal(t, "consumer.reset", r.requests()[8].events[0].Kind)
		require.Equal(t, "late-user-000000", r.requests()[8].events[1].UserID.Identifier)
	})
}

func TestPost_EndsWhereTheEndpointIsGone(t *testing.T) {
	inVirtualTime(t, 1, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
		r.answer = saying("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", 2)
		stop := r.posting(d, Endpoint{})
		time.Sleep(time.Hour)
		require.Len(t, r.requests(), 1)
		require.ErrorIs(t, stop(), ErrGone)
		require.Empty(t, consumer(t, d).Cursor, "it was not handled")
		// A host that posts again begins where it was.
		stop = r.posting(d, Endpoint{})
		synctest.Wait()
		requireStopped(t, stop())
		require.Equal(t, r.requests()[0].id, r.requests()[1].id)
	})
}

func TestPost_WaitsAsLongAsTheReceiverSaysWithinABound(t *testing.T) {
	for answer, wait := range map[string]time.Duration{
		"429 Slow\r\nRetry-After: 30":                            31 * time.Second,
		"503 Down\r\nRetry-After: in 90 s":                       91 * time.Second,
		"503 Down\r\nRetry-After: 999999":                        10*time.Minute + time.Second,
		"503 Down\r\nRetry-After: 99999999999999999":             time.Second,
		"503 Down\r\nRetry-After: -5":                            time.Second,
		"503 Down\r\nRetry-After: soon":                          time.Second,
		"503 Down\r\nX: y":                                       time.Second,
		"500 Oops\r\nRetry-After: 30":                            time.Second,
		"429 Slow\r\nRetry-After: Mon, 01 Jan 1990 00:00:00 GMT": time.Second,
	} {
		inVirtualTime(t, 1, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
			date := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
			r.answer = saying("HTTP/1.1 "+strings.Replace(answer, "in 90 s", date, 1)+"\r\nContent-Length: 0\r\n\r\n", 2)
			stop := r.posting(d, Endpoint{})
			time.Sleep(wait + time.Second)
			requireStopped(t, stop())
			require.Len(t, r.requests(), 2, answer)
			require.Equal(t, wait, r.at[1].Sub(r.at[0]), answer)
		})
	}
}

func TestPost_WhatIsNot2xxIsNoSuccess(t *testing.T) {
	for _, code := range []int{101, 301, 302, 307, 308, 400, 401, 404, 413, 500, 599, 999} {
		inVirtualTime(t, 1, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
			r.answer = saying(fmt.Sprintf("HTTP/1.1 %d X\r\nLocation: http://receiver.example/other\r\nContent-Length: 0\r\n\r\n", code), 2)
			stop := r.posting(d, Endpoint{})
			time.Sleep(999 * time.Millisecond)
			require.Len(t, r.requests(), 1, code)
			require.Empty(t, consumer(t, d).Cursor, code)
			time.Sleep(time.Second)
			require.Len(t, r.requests(), 2, code)
			require.NotEmpty(t, consumer(t, d).Cursor, code)
			requireStopped(t, stop())
		})
	}
}

// What a receiver does that is slow, huge or lies: it costs its own consumer some time, and nobody
// reads what it says.
func TestPost_AReceiverThatMisbehavesFailsAndIsNotRepeated(t *testing.T) {
	const canary = "CANARY"
	forever := func(c net.Conn, text string, every time.Duration) {
		for range 1 << 17 { // of 6 bytes or more, at once or for days
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
			time.Sleep(every)
		}
	}
	for name, misbehave := range map[string]struct {
		do     func(c net.Conn)
		within time.Duration
	}{
		"answers nothing":      {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, 15 * time.Second},
		"hangs up":             {func(c net.Conn) { c.Close() }, 0},
		"answers no HTTP":      {func(c net.Conn) { _, _ = io.WriteString(c, canary+" is the secret\r\n\r\n"); c.Close() }, 0},
		"has a broken header":  {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+canary+"\r\n\r\n"); c.Close() }, 0},
		"has a bad length":     {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: "+canary+"\r\n\r\n") }, 0},
		"has a huge header":    {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"); forever(c, "X: "+canary+"\r\n", 0) }, 0},
		"trickles its header":  {func(c net.Conn) { forever(c, "H", time.Second) }, 15 * time.Second},
		"goes on and on first": {func(c net.Conn) { forever(c, "HTTP/1.1 103 "+canary+"\r\n\r\n", time.Second) }, 30 * time.Second},
		"refuses with a text": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 500 "+canary+"\r\nX: "+canary+"\r\nContent-Length: 6\r\n\r\n"+canary)
		}, 0},
		"refuses without end": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 500 X\r\nContent-Length: 99999999999\r\n\r\n")
			forever(c, canary, 0)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			inVirtualTime(t, 1, denizen.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, d *denizen.Directory, r *receiver) {
				r.answer = func(n int, c net.Conn) {
					if n < 9 {
						misbehave.do(c)
					} else {
						_, _ = io.WriteString(c, ok)
					}
				}
				stop := r.posting(d, Endpoint{})
				time.Sleep(20 * time.Minute)
				require.Len(t, r.requests(), 9)
				require.LessOrEqual(t, r.at[1].Sub(r.at[0]), misbehave.within+time.Second+100*time.Millisecond)
				require.Equal(t, feed(t, d)[1].Cursor, consumer(t, d).Cursor)
				requireStopped(t, stop())
			})
			require.Contains(t, log.String(), "webhook: ")
			require.NotContains(t, log.String(), canary)
			require.NotContains(t, log.String(), "hidden", "it may be a secret of the URL")
		})
	}
}

func TestPost_ABodyIsNotReadFarAndSuccessIsSuccess(t *testing.T) {
	for name, say := range map[string]string{
		"without end":    "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + strings.Repeat("x", 1<<20),
		"cut off":        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx",
		"in bad pieces":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nbad",
		"a bomb":         "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nbad",
		"says otherwise": "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"ok\": false }",
	} {
		inVirtualTime(t, 1, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
			r.answer = saying(say, 2)
			stop := r.posting(d, Endpoint{})
			time.Sleep(2 * time.Second)
			newUsers(t, d, "late-user", 1)
			synctest.Wait()
			require.Len(t, r.requests(), 2, name)
			require.Len(t, r.requests()[1].events, 1, name)
			requireStopped(t, stop())
		})
	}
}

func TestPost_ARequestThatIsNotReadEndsInTime(t *testing.T) {
	inVirtualTime(t, 1, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
		p, err := newPoster(Endpoint{URL: "http://receiver.example", AllowHTTP: true, Secrets: []string{testSecret}, Timeout: 7 * time.Second})
		require.NoError(t, err)
		ours, theirs := net.Pipe()
		defer theirs.Close()
		p.transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return ours, nil }
		began := time.Now()
		_, err = p.try(t.Context(), "msg_1", []byte("{}"))
		require.Error(t, err)
		require.Equal(t, 7*time.Second, time.Since(began))
	})
}
