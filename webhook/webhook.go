// Package webhook posts the events of a directory to an address of another service, signed by the
// Standard Webhooks scheme (https://www.standardwebhooks.com).
//
// [Post] delivers as [denizen.Directory.Notify] does: in order, at least once, to a named consumer,
// from one of several processes. A request that is tried again has the same webhook-id and the same
// bytes, also from another process after a crash. So a receiver can leave out what it has seen.
//
// [Verify] checks such a request.
//
// # What is posted
//
//	{"type":"denizen.events","timestamp":"2026-01-02T15:04:05.678Z","data":{
//	  "events":[{"sequence":2,"at":1767366245000,"kind":"user.created","actor":".system",
//	    "userId":{"identifier":"alice@01"},"internalId":"…","subjects":["…"]}],
//	  "cursor":"AAAAAAAAAAEAAAAAAAAAAlzYs2pqVxN0"}}
//
// An event has the members of the event stream of package httpadapter. It holds no secret, and of a
// person nothing but ids. Timestamp is when the request was made first. Cursor is the place in the
// feed that the receiver has seen everything up to. An event of the kind "missed" says that some
// were forgotten before they were delivered, or that one cannot be read: the receiver should read
// the present state. Members may be added.
//
// # Where it is posted
//
// The address may come from somebody who is not trusted. So Post follows no redirect, uses no
// proxy, and judges the address that it is about to connect to, after the name was looked up. It
// connects to nothing but addresses of the internet, unless Endpoint.Allow has them. Of an answer
// it uses the status and Retry-After, and nothing of it gets into errors or logs.
package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
)

// Bounds of an Endpoint.
const (
	defaultTimeout = 30 * time.Second
	maxTimeout     = 5 * time.Minute
	maxURL         = 2048
	maxSecrets     = 8
)

// ErrGone says that the receiver answered 410: it wants no more events.
var ErrGone = errors.New("webhook: the endpoint is gone")

// Endpoint is where events are posted to, and how.
type Endpoint struct {
	// URL is where to post to. It must be https, unless AllowHTTP is set. It may have a query, and
	// no user and no fragment.
	URL string
	// Secrets are one to eight secrets: see [NewSecret]. Each gives a signature. To replace one,
	// put the new one beside it, wait until the receiver has it, and remove the old one.
	Secrets []string
	// Kinds are the kinds of events to post. The default is all. [denizen.EventMissed] is always
	// posted.
	Kinds []denizen.EventKind
	// Timeout is how long a request may take as a whole, five minutes at most. The default is 30
	// seconds. Looking up and connecting, the handshake, and waiting for the answer have ten, ten
	// and fifteen of them at most.
	Timeout time.Duration
	// Allow are addresses that may be connected to although they are not of the internet: private,
	// loopback, link-local and the like. Whoever chooses the URL can then reach what listens there.
	Allow []netip.Prefix
	// AllowHTTP allows URLs of http, over which anybody in between reads the events.
	AllowHTTP bool
	// TLS is how to connect, with roots or certificates of your own. The default is that of package
	// crypto/tls.
	TLS *tls.Config
}

// Post posts events that the consumer of the name has not handled yet, and then new ones as they
// come, until ctx ends. Run it in a goroutine of each process that may post. All that is said of
// [denizen.Directory.Notify] holds, and Notify must not be used for the same name.
//
// A request has 256 events and [MaxBody] bytes at most. It is handled if the answer is 2xx. If it
// fails it is tried again, after a second and then ever later, up to a minute. Where the answer is
// 429 or 503 and has a Retry-After, Post waits for as long before that, ten minutes at most. After
// eight failures Options.Logger of the directory and [denizen.Directory.Consumers] say that the
// consumer is stuck; [denizen.Directory.ResetConsumer] skips what it is stuck at.
//
// Which events a request has is stored before it is tried first. So it is the same when it is tried
// again, unless Kinds was changed or its events were forgotten; then its webhook-id
// is another, too.
//
// Post returns [ErrGone] if the answer is 410: the host should remember that, and delete the
// consumer. It returns [denizen.ErrInvalid] if there is something wrong with the Endpoint, with
// Field "url", "secrets" or "timeout", and the errors of Notify. Only .system may.
func Post(
	ctx context.Context, dir *denizen.Directory, by denizen.Principal, name string, e Endpoint,
) error {
	p, err := newPoster(e)
	if err != nil {
		return err
	}
	return p.post(ctx, dir, by, name)
}

func (p *poster) post(
	ctx context.Context, dir *denizen.Directory, by denizen.Principal, name string,
) error {
	defer p.transport.CloseIdleConnections()
	p.salt = dir.ID() + " " + name + " "
	ctx, p.end = context.WithCancelCause(ctx)
	defer p.end(nil)
	err := door.Of(dir).Deliver(ctx, by, name, p)
	if errors.Is(context.Cause(ctx), ErrGone) {
		return ErrGone
	}
	return err
}

// newPoster checks an endpoint.
func newPoster(e Endpoint) (*poster, error) {
	u, err := url.Parse(e.URL)
	switch {
	case err != nil || len(e.URL) > maxURL || u.Hostname() == "" || u.User != nil ||
		u.Fragment != "" || !isPort(u.Port()):
		return nil, invalid("url", "must be of a host, of 2,048 bytes at most, without user and fragment")
	case u.Scheme != "https" && !(u.Scheme == "http" && e.AllowHTTP):
		return nil, invalid("url", "must be https")
	case len(e.Secrets) < 1 || len(e.Secrets) > maxSecrets:
		return nil, invalid("secrets", "must be one to eight")
	case e.Timeout < 0 || e.Timeout > maxTimeout:
		return nil, invalid("timeout", "must be five minutes at most")
	}
	p := &poster{url: u, kinds: slices.Clone(e.Kinds), timeout: e.Timeout}
	if p.timeout == 0 {
		p.timeout = defaultTimeout
	}
	for _, secret := range e.Secrets {
		key, err := keyOf(secret)
		if err != nil {
			return nil, invalid("secrets", "must each be whsec_ and 24 to 64 bytes as base64")
		}
		p.keys = append(p.keys, key)
	}
	p.dialer.Timeout = dialTimeout
	p.dialer.Control = judge(slices.Clone(e.Allow))
	p.transport = p.newTransport(e.TLS)
	return p, nil
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil || text == ""
}

func invalid(field, reason string) error {
	return &denizen.Error{Op: "Post", Kind: denizen.ErrInvalid, Field: field, Reason: reason}
}
