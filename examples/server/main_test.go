package main

import (
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestARootKeyIsThirtyTwoBytesInEitherSpelling(t *testing.T) {
	key := []byte(strings.Repeat("k", 31) + "!")
	for _, text := range []string{base64.StdEncoding.EncodeToString(key), hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key))} {
		got, err := rootKeys(text + ",none")
		require.NoError(t, err)
		require.Equal(t, [][]byte{key, []byte("none")}, got)
	}
	none, err := rootKeys("")
	require.NoError(t, err)
	require.Nil(t, none)
	for _, bad := range []string{"secret", base64.StdEncoding.EncodeToString(key[1:]), hex.EncodeToString(key[1:]), strings.Repeat("z", 64), " " + hex.EncodeToString(key)} {
		_, err := rootKeys(bad)
		require.ErrorContains(t, err, "DENIZEN_ROOT_KEYS must be 32 bytes")
		require.NotContains(t, err.Error(), bad)
	}
}

// slowly is a listener for one connection in memory.
type slowly struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l slowly) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l slowly) Close() error   { return nil }
func (l slowly) Addr() net.Addr { return &net.TCPAddr{} }

func TestABodyThatNeverComesIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newInside(t, settings{})
		server := newServer(s.handler, slog.New(slog.DiscardHandler))
		l := slowly{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		go func() { _ = server.Serve(l) }()
		ours, theirs := net.Pipe()
		l.conns <- theirs
		began := time.Now()
		_, err := ours.Write([]byte("POST /sign-in/code HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"))
		require.NoError(t, err)
		buffer := make([]byte, 4096)
		n, err := ours.Read(buffer)
		require.NoError(t, err)
		require.Contains(t, string(buffer[:n]), " 400 ")
		require.Equal(t, 15*time.Second, time.Since(began))
		close(l.closed)
		ours.Close()
		require.NoError(t, server.Close())
	})
}
