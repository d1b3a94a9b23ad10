// Command streams is a server whose users all may see the presence of one of them. Its arguments are
// the file of the directory, and the number of users who watch.
package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"log"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/bench/internal/loopback"
	"github.com/denizenhq/denizen/httpadapter"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

const (
	watched = denizen.UserID("watched-user")
	key     = "application-one"
	secret  = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldCE="
)

var system = denizen.System()

func run(ctx context.Context, path, watchers string) error {
	n, err := strconv.Atoi(watchers)
	if err != nil {
		return err
	}
	dir, err := denizen.Open(ctx, path, denizen.Options{
		MaySee: func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
			return true, nil
		},
	})
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.PutAccessKey(ctx, system, key, secret); err != nil {
		return err
	}
	if _, err := dir.CreateUser(ctx, system, denizen.NewUser{ID: watched, ScreenName: "Watched"}); err != nil {
		return err
	}
	if err := dir.SetPresence(ctx, system, watched, denizen.Online(time.Hour).Then(denizen.Offline())); err != nil {
		return err
	}
	streams, err := tokens(ctx, dir, n)
	if err != nil {
		return err
	}
	change := loopback.Post("/v1/users/"+string(watched)+"/presence",
		"Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte(key+":"+secret))+"\r\n",
		`{"type":"mitter.up.Online","timeToLive":3600,"expiresTo":{"type":"mitter.up.Away","timeToLive":100000}}`)
	return loopback.Serve(httpadapter.New(dir, httpadapter.Options{MaxStreams: n}), change, streams)
}

// tokens returns the requests of n users, each with a token of its own.
func tokens(ctx context.Context, dir *denizen.Directory, n int) ([]string, error) {
	const callers = 256
	streams, errs := make([]string, n), make([]error, callers)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := c; i < n && errs[c] == nil; i += callers {
				streams[i], errs[c] = one(ctx, dir, i)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return streams, nil
}

func one(ctx context.Context, dir *denizen.Directory, i int) (string, error) {
	u, err := dir.CreateUser(ctx, system, denizen.NewUser{
		ID: denizen.UserID(fmt.Sprintf("watcher-%06d", i)), ScreenName: "Watcher",
	})
	if err != nil {
		return "", err
	}
	token, err := dir.IssueToken(ctx, system, u.ID, denizen.TokenOptions{})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("GET /v1/users/%s/presence HTTP/1.1\r\nHost: a.example\r\nAccept: text/event-stream\r\nAuthorization: Bearer %s\r\n\r\n",
		watched, token.Signed), nil
}
