package httpadapter_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/store/memory"
)

// connections is how many keep-alive connections a benchmark has.
const connections = 64

// drive sends requests over keep-alive connections, each the next once the one before was
// answered. The requests are made before the clock runs.
func drive(b *testing.B, h http.Handler, request func(n uint64) []byte) {
	server := httptest.NewServer(h)
	defer server.Close()
	address := server.Listener.Addr().String()
	requests := make([][]byte, b.N)
	for i := range requests {
		requests[i] = request(uint64(i))
	}
	var n atomic.Uint64
	b.ReportAllocs()
	b.SetParallelism(max(1, connections/2))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			b.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		r := bufio.NewReader(c)
		for pb.Next() {
			if _, err := c.Write(requests[n.Add(1)-1]); err != nil {
				b.Error(err)
				return
			}
			if err := skipAnswer(r); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
}

// skipAnswer reads an answer of 200 with a Content-Length, without keeping it.
func skipAnswer(r *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")):
			rest, _ := io.ReadAll(io.LimitReader(r, 400))
			return fmt.Errorf("%s%s", line, rest)
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			length, _ = strconv.Atoi(string(bytes.TrimSpace(line[len("Content-Length: "):])))
		case len(line) == 2 && length < 0:
			return errors.New("no Content-Length")
		case len(line) == 2:
			_, err := r.Discard(length)
			return err
		}
	}
}

// served is a directory with the user, the token and the answer that the benchmarks are about.
type served struct {
	dir     *denizen.Directory
	handler http.Handler
	request []byte
	body    []byte
}

func serveOver(b *testing.B, dir *denizen.Directory) served {
	system := denizen.System()
	require.NoError(b, dir.PutAccessKey(b.Context(), system, appKey, appSecret))
	u, err := dir.CreateUser(b.Context(), system, denizen.NewUser{
		ScreenName: "Alice", Locators: []denizen.NewLocator{denizen.Email("alice@example.org")},
	})
	require.NoError(b, err)
	token, err := dir.IssueToken(b.Context(), system, u.ID, denizen.TokenOptions{})
	require.NoError(b, err)
	s := served{dir: dir, handler: httpadapter.New(dir, httpadapter.Options{Signed: true})}
	s.request = fmt.Appendf(nil, "GET /v1/users/%s HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer %s\r\n\r\n", u.ID, token.Signed)
	r := httptest.NewRequest("GET", "/v1/users/"+string(u.ID), nil)
	r.Header.Set("Authorization", "Bearer "+token.Signed)
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	require.Equal(b, 200, w.Code)
	s.body = w.Body.Bytes()
	return s
}

func boltDirectory(b *testing.B) *denizen.Directory {
	dir, err := denizen.Open(b.Context(), filepath.Join(b.TempDir(), "people.db"), denizen.Options{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, dir.Close()) })
	return dir
}

func memoryDirectory(b *testing.B) *denizen.Directory {
	dir, err := denizen.New(b.Context(), memory.New(), denizen.Options{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, dir.Close()) })
	return dir
}

// bare writes the same bytes, and does nothing else.
func bare(body []byte) http.Handler {
	length := strconv.Itoa(len(body))
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", length)
		_, _ = w.Write(body)
	})
}

// handWritten is what somebody would write by hand for this one route: the mux, an HMAC token
// with an expiry and a map of revoked ones, the record from bbolt, decoded and encoded.
func handWritten(b *testing.B, body []byte) (h http.Handler, request []byte) {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "hand.db"), 0o600, nil)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	var u handUser
	require.NoError(b, json.Unmarshal(body, &u))
	bucket := []byte("users")
	require.NoError(b, db.Update(func(tx *bbolt.Tx) error {
		users, err := tx.CreateBucket(bucket)
		if err != nil {
			return err
		}
		record, err := json.Marshal(u)
		if err != nil {
			return err
		}
		return users.Put([]byte(u.UserID), record)
	}))
	key := []byte(rand.Text())
	payload := binary.BigEndian.AppendUint64(append([]byte(u.UserID), rand.Text()[:16]...), uint64(time.Now().Add(time.Hour).UnixNano()))
	mac := hmac.New(sha256.New, key)
	mac.Write(payload)
	token := base64.RawURLEncoding.EncodeToString(mac.Sum(payload))
	var mu sync.RWMutex
	revoked := make(map[string]bool)
	pool := sync.Pool{New: func() any { h := hmac.New(sha256.New, key); return &h }}
	subject := func(token string) (string, bool) {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || len(raw) < sha256.Size+24 {
			return "", false
		}
		signed, sum := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
		mac := pool.Get().(*hash.Hash)
		(*mac).Reset()
		(*mac).Write(signed)
		good := hmac.Equal((*mac).Sum(nil), sum)
		pool.Put(mac)
		id, rest := string(signed[:len(signed)-24]), signed[len(signed)-24:]
		if !good || int64(binary.BigEndian.Uint64(rest[16:])) < time.Now().UnixNano() {
			return "", false
		}
		mu.RLock()
		defer mu.RUnlock()
		return id, !revoked[string(rest[:16])]
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/users/{id}", func(w http.ResponseWriter, r *http.Request) {
		token, there := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		id, good := subject(token)
		if !there || !good {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		if r.PathValue("id") != id {
			http.Error(w, "forbidden", http.StatusForbidden)
			return
		}
		var record []byte
		if err := db.View(func(tx *bbolt.Tx) error {
			record = append(record, tx.Bucket(bucket).Get([]byte(id))...)
			return nil
		}); err != nil {
			http.Error(w, "unavailable", http.StatusServiceUnavailable)
			return
		}
		var u handUser
		if json.Unmarshal(record, &u) != nil {
			http.NotFound(w, r)
			return
		}
		body, err := json.Marshal(u)
		if err != nil {
			http.Error(w, "encode", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})
	return mux, fmt.Appendf(nil, "GET /v1/users/%s HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer %s\r\n\r\n", u.UserID, token)
}

// handUser has the members of the same answer.
type handUser struct {
	UserID     string `json:"userId"`
	Identifier string `json:"identifier"`
	InternalID string `json:"internalId"`
	ScreenName struct {
		ScreenName string `json:"screenName"`
	} `json:"screenName"`
	UserLocators []struct {
		Type               string `json:"@type"`
		UserLocatorID      string `json:"userLocatorId"`
		Identifier         string `json:"identifier"`
		Locator            string `json:"locator"`
		Email              string `json:"email"`
		VerificationStatus string `json:"verificationStatus"`
		ApplicationID      struct {
			Identifier string `json:"identifier"`
		} `json:"applicationId"`
	} `json:"userLocators"`
	SystemUser     bool            `json:"systemUser"`
	Synthetic      bool            `json:"synthetic"`
	Blocked        bool            `json:"blocked"`
	EntityProfile  json.RawMessage `json:"entityProfile"`
	EntityMetadata struct{}        `json:"entityMetadata"`
	AuditInfo      struct {
		CreatedAt int64 `json:"createdAt"`
		UpdatedAt int64 `json:"updatedAt"`
	} `json:"auditInfo"`
}

// BenchmarkGetUser is GET /v1/users/{id} with a Bearer token.
func BenchmarkGetUser(b *testing.B) {
	overBolt, overMemory := serveOver(b, boltDirectory(b)), serveOver(b, memoryDirectory(b))
	hand, handRequest := handWritten(b, overBolt.body)
	for _, row := range []struct {
		name    string
		handler http.Handler
		request []byte
	}{
		{"bare", bare(overBolt.body), overBolt.request},
		{"hand-written", hand, handRequest},
		{"denizen/bolt", overBolt.handler, overBolt.request},
		{"denizen/memory", overMemory.handler, overMemory.request},
	} {
		b.Run(row.name, func(b *testing.B) {
			drive(b, row.handler, func(uint64) []byte { return row.request })
		})
	}
}

// BenchmarkGetUserSigned is the same by the application, each request signed and its nonce
// spent durably, beside a group commit that does nothing else (writers that share a commit), and
// beside the bare server with such a commit in it.
func BenchmarkGetUserSigned(b *testing.B) {
	floor := func(b *testing.B) func([]byte) error {
		db, err := bbolt.Open(filepath.Join(b.TempDir(), "floor.db"), 0o600, &bbolt.Options{NoFreelistSync: true})
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, db.Close()) })
		return groupCommit(b.Context(), db)
	}
	var n atomic.Uint64
	nonce := func() []byte { return fmt.Appendf(nil, "nonce-%016d", n.Add(1)) }
	b.Run("bare group commit", func(b *testing.B) {
		commit := floor(b)
		b.ReportAllocs()
		b.SetParallelism(max(1, connections/2))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := commit(nonce()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("bare server and group commit", func(b *testing.B) {
		s, commit := serveOver(b, boltDirectory(b)), floor(b)
		write := bare(s.body)
		drive(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := commit(nonce()); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			write.ServeHTTP(w, r)
		}), func(uint64) []byte { return s.request })
	})
	b.Run("denizen/bolt", func(b *testing.B) {
		s := serveOver(b, boltDirectory(b))
		secret, err := base64.StdEncoding.DecodeString(appSecret)
		require.NoError(b, err)
		users, err := s.dir.UserPage(b.Context(), denizen.System(), denizen.Query{Limit: 1})
		require.NoError(b, err)
		path := "/v1/users/" + string(users.Users[0].ID)
		sum := md5.Sum(nil)
		empty := base64.StdEncoding.EncodeToString(sum[:])
		drive(b, s.handler, func(n uint64) []byte {
			date, nonce := time.Now().UTC().Format(http.TimeFormat), fmt.Sprintf("nonce-%016d", n)
			mac := hmac.New(sha1.New, secret)
			mac.Write([]byte(strings.Join([]string{"GET", "null", empty, date, path, nonce}, "\n")))
			return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: a.example\r\nX-Mitter-Application-Access-Key: %s\r\nDate: %s\r\nNonce: %s\r\nContent-MD5: %s\r\nAuthorization: Auth %s:%s\r\n\r\n",
				path, appKey, date, nonce, empty, appKey, base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		})
	})
}

// groupCommit answers a commit of one key that shares its transaction with those that wait
// at the same time.
func groupCommit(ctx context.Context, db *bbolt.DB) func(key []byte) error {
	type write struct {
		key  []byte
		done chan error
	}
	queue := make(chan write, connections)
	go func() {
		for {
			var group []write
			select {
			case <-ctx.Done():
				return
			case w := <-queue:
				group = append(group, w)
			}
			for len(queue) > 0 {
				group = append(group, <-queue)
			}
			err := db.Update(func(tx *bbolt.Tx) error {
				bucket, err := tx.CreateBucketIfNotExists([]byte("nonces"))
				if err != nil {
					return err
				}
				for _, w := range group {
					if err := bucket.Put(w.key, []byte(`{"key":"application-one"}`)); err != nil {
						return err
					}
				}
				return nil
			})
			for _, w := range group {
				w.done <- err
			}
		}
	}()
	return func(key []byte) error {
		w := write{key, make(chan error, 1)}
		queue <- w
		return <-w.done
	}
}
