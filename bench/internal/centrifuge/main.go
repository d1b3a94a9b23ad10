// Command centrifuge is a server of centrifuge with its memory engine. Its argument is the number of
// clients: each is subscribed to one channel, as one who is present there, and told what is published
// to it by server-sent events. Nobody has to prove who it is.
package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/centrifugal/centrifuge"

	"github.com/denizenhq/denizen/bench/internal/loopback"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

const channel = "watched-user"

func run(clients string) error {
	n, err := strconv.Atoi(clients)
	if err != nil {
		return err
	}
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return err
	}
	node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{UserID: e.ClientID},
			Subscriptions: map[string]centrifuge.SubscribeOptions{channel: {EmitPresence: true}},
		}, nil
	})
	if err := node.Run(); err != nil {
		return err
	}
	defer func() { _ = node.Shutdown(context.Background()) }()
	mux := http.NewServeMux()
	mux.Handle("GET /connection/sse", centrifuge.NewSSEHandler(node, centrifuge.SSEConfig{
		// As Denizen's comments, which need no answer either.
		PingPongConfig: centrifuge.PingPongConfig{PingInterval: 15 * time.Second, PongTimeout: -1},
	}))
	mux.HandleFunc("POST /publish", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = node.Publish(channel, body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	streams := make([]string, n)
	for i := range streams {
		streams[i] = "GET /connection/sse?cf_connect=" + url.QueryEscape(`{"id":1,"connect":{}}`) + " HTTP/1.1\r\nHost: a.example\r\nAccept: text/event-stream\r\n\r\n"
	}
	// As long as an event of Denizen's.
	change := loopback.Post("/publish", "", `{"userId":{"identifier":"watched-user"},"presence":{"presence":{"type":"mitter.up.Online","timeToLive":3600,`+
		`"expiresTo":{"type":"mitter.up.Away","timeToLive":100000}},"setTimeMs":1700000000000,"setTime":1700000000000,"untilMs":1700000000000}}`)
	return loopback.Serve(mux, change, streams)
}
