package main

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
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/store/memory"
)

// connections is the number of keep-alive connections.
const connections = 64

const (
	accessKey    = "application-one"
	accessSecret = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldCE="
)

// served is a server on loopback, with a connection for each caller.
type served struct {
	server *httptest.Server
	conns  []*conn
	free   chan *conn
}

type conn struct {
	net.Conn
	answers *bufio.Reader
}

func serve(h http.Handler) (*served, error) {
	s := &served{server: httptest.NewServer(h), free: make(chan *conn, connections)}
	for range connections {
		c, err := net.Dial("tcp", s.server.Listener.Addr().String())
		if err != nil {
			return nil, err
		}
		one := &conn{c, bufio.NewReader(c)}
		s.conns = append(s.conns, one)
		s.free <- one
	}
	return s, nil
}

func (s *served) close() {
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.server.Close()
}

// ask sends requests that were built before. So the server is measured, and not the client, which
// shares its cores and its allocations.
func (s *served) ask(name string, request func(i uint64) []byte) side {
	return side{name: name, do: func(i uint64) error {
		c := <-s.free
		defer func() { s.free <- c }()
		if _, err := c.Write(request(i)); err != nil {
			return err
		}
		return skipAnswer(c.answers)
	}}
}

// skipAnswer reads a response of 200 with a Content-Length, and discards it.
func skipAnswer(r *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")):
			status := string(line)
			rest := make([]byte, r.Buffered())
			n, _ := r.Read(rest)
			return fmt.Errorf("%s%s", status, rest[:n])
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len("Content-Length: "):]))); err != nil {
				return err
			}
		case len(line) == 2 && length < 0:
			return errors.New("no Content-Length")
		case len(line) == 2:
			_, err := r.Discard(length)
			return err
		}
	}
}

// one returns a request that is sent repeatedly.
func one(request []byte) func(uint64) []byte { return func(uint64) []byte { return request } }

// overHTTP requests a user with its token, over 64 keep-alive connections.
func overHTTP(b *bench, pb *pocketBase) (err error) {
	dir, err := denizen.Open(b.ctx, b.file("http"), denizen.Options{})
	if err != nil {
		return err
	}
	defer func() { err = first(err, dir.Close()) }()
	inMemory, err := denizen.New(b.ctx, memory.New(), denizen.Options{})
	if err != nil {
		return err
	}
	defer func() { err = first(err, inMemory.Close()) }()
	var all []side
	var stops []func()
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	add := func(name string, h http.Handler, request []byte) error {
		s, err := serve(h)
		if err != nil {
			return err
		}
		stops = append(stops, s.close)
		all = append(all, s.ask(name, one(request)))
		return nil
	}
	ours, err := newAPI(b.ctx, dir)
	if err != nil {
		return err
	}
	oursInMemory, err := newAPI(b.ctx, inMemory)
	if err != nil {
		return err
	}
	hand, handRequest, stop, err := handWritten(b, ours.body)
	if err != nil {
		return err
	}
	defer func() { err = first(err, stop()) }()
	err = first(
		add("Denizen", ours.handler, ours.request),
		add("Denizen over memory", oursInMemory.handler, oursInMemory.request),
		add("floor: net/http that writes the same bytes", bare(ours.body), ours.request),
		add("floor: written by hand", hand, handRequest),
	)
	if err != nil {
		return err
	}
	if pb != nil {
		h, err := pb.handler()
		if err != nil {
			return err
		}
		request := func(method, path string) []byte {
			return fmt.Appendf(nil, "%s /api/collections/users/%s HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\nAuthorization: %s\r\n\r\n", method, path, pb.texts[0])
		}
		err = first(
			add("PocketBase, view", h, request("GET", "records/"+pb.ids[0])),
			add("PocketBase, auth-refresh", h, request("POST", "auth-refresh")),
		)
		if err != nil {
			return err
		}
	}
	if err := b.compare(operation{name: "HTTP/user", goroutines: connections, latency: true, sides: all}); err != nil {
		return err
	}
	return signed(b, ours)
}

// api is the HTTP API of a directory, with a user and the request of that user for itself.
type api struct {
	handler       http.Handler
	user          denizen.UserID
	request, body []byte
}

func newAPI(ctx context.Context, dir *denizen.Directory) (*api, error) {
	if err := dir.PutAccessKey(ctx, system, accessKey, accessSecret); err != nil {
		return nil, err
	}
	u, err := dir.CreateUser(ctx, system, denizen.NewUser{ScreenName: "Alice", Locators: []denizen.NewLocator{denizen.Email("alice@example.org")}})
	if err != nil {
		return nil, err
	}
	token, err := dir.IssueToken(ctx, system, u.ID, denizen.TokenOptions{})
	if err != nil {
		return nil, err
	}
	a := &api{handler: httpadapter.New(dir, httpadapter.Options{Signed: true}), user: u.ID}
	a.request = fmt.Appendf(nil, "GET /v1/users/%s HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer %s\r\n\r\n", u.ID, token.Signed)
	r := httptest.NewRequest("GET", "/v1/users/"+string(u.ID), nil)
	r.Header.Set("Authorization", "Bearer "+token.Signed)
	w := httptest.NewRecorder()
	a.handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return nil, fmt.Errorf("%d: %s", w.Code, w.Body)
	}
	a.body = w.Body.Bytes()
	return a, nil
}

// bare writes the same bytes and does nothing else.
func bare(body []byte) http.Handler {
	length := strconv.Itoa(len(body))
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", length)
		_, _ = w.Write(body)
	})
}

// handWritten is what one would write by hand for this one route: the mux, an HMAC token with an
// expiry and a map of revoked ones, and the record from bbolt, decoded and encoded.
func handWritten(b *bench, body []byte) (h http.Handler, request []byte, stop func() error, err error) {
	db, err := openBare(b.file("hand"))
	if err != nil {
		return nil, nil, nil, err
	}
	var u handUser
	if err := json.Unmarshal(body, &u); err != nil {
		return nil, nil, nil, err
	}
	stored, err := json.Marshal(u)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(recordsBucket).Put([]byte(u.UserID), stored) }); err != nil {
		return nil, nil, nil, err
	}
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
		var stored []byte
		if err := db.View(func(tx *bbolt.Tx) error {
			stored = append(stored, tx.Bucket(recordsBucket).Get([]byte(id))...)
			return nil
		}); err != nil {
			http.Error(w, "unavailable", http.StatusServiceUnavailable)
			return
		}
		var u handUser
		if json.Unmarshal(stored, &u) != nil {
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
	return mux, fmt.Appendf(nil, "GET /v1/users/%s HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer %s\r\n\r\n", u.UserID, token), db.Close, nil
}

// handUser has the members of the same response.
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

// signed requests the same as the application. Each request is signed, and its nonce is stored
// durably. The floor is the bare server with a group commit of a nonce.
func signed(b *bench, a *api) (err error) {
	ours, err := serve(a.handler)
	if err != nil {
		return err
	}
	defer ours.close()
	db, err := openBare(b.file("nonces"))
	if err != nil {
		return err
	}
	defer func() { err = first(err, db.Close()) }()
	group := newGroup(db)
	defer group.close()
	write := bare(a.body)
	floor, err := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nonce := fmt.Appendf(nil, "nonce-%016d", sequence.Add(1))
		if err := group.commit(func(tx *bbolt.Tx) error {
			return tx.Bucket(recordsBucket).Put(nonce, []byte(`{"key":"application-one"}`))
		}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		write.ServeHTTP(w, r)
	}))
	if err != nil {
		return err
	}
	defer floor.close()
	secret, err := base64.StdEncoding.DecodeString(accessSecret)
	if err != nil {
		return err
	}
	path := "/v1/users/" + string(a.user)
	sum := md5.Sum(nil)
	empty := base64.StdEncoding.EncodeToString(sum[:])
	requests := make([][]byte, 64*connections)
	sign := func() error { // before the clock runs
		for i := range requests {
			date, nonce := time.Now().UTC().Format(http.TimeFormat), fmt.Sprintf("nonce-%016d", sequence.Add(1))
			mac := hmac.New(sha1.New, secret)
			mac.Write([]byte(strings.Join([]string{"GET", "null", empty, date, path, nonce}, "\n")))
			requests[i] = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: a.example\r\nX-Mitter-Application-Access-Key: %s\r\nDate: %s\r\nNonce: %s\r\nContent-MD5: %s\r\nAuthorization: Auth %s:%s\r\n\r\n",
				path, accessKey, date, nonce, empty, accessKey, base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		}
		return nil
	}
	signed := ours.ask("Denizen", func(i uint64) []byte { return requests[i%uint64(len(requests))] })
	signed.before, signed.some = sign, len(requests)
	return b.compare(operation{
		name: "HTTP/signed", goroutines: connections, latency: true,
		sides: []side{signed, floor.ask("floor: net/http with a bare group commit", one(a.request))},
	})
}
