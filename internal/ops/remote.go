package ops

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/peer"
)

// Paths of what is served through a socket. The number grows with what would be misunderstood.
const (
	ReadPath    = "/1/read"
	BackupPath  = "/1/backup"
	CompactPath = "/1/compact"
)

// SeqTrailer is the trailer of a backup that has its place.
const SeqTrailer = "Denizen-Seq"

// MaxLine is how long a line of a reply may be, in bytes. The longest is of a person.
const MaxLine = 16 << 20

// Remote is a directory that another process serves on a Unix socket.
type Remote struct{ client *http.Client }

var _ Source = (*Remote)(nil)

// ErrForeign says that a socket is not of whom the caller trusts.
var ErrForeign = errors.New("the socket is of another user")

// ErrStale says that nobody serves a socket any more.
var ErrStale = errors.New("nobody serves the socket any more")

// Dial returns the directory that is served at a path, by a process of this user, of root, or of the
// owner of a file. If there is no socket the error is [fs.ErrNotExist].
func Dial(ctx context.Context, path string, owner int) (*Remote, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s is not a socket", path)
	}
	connect := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		uid, err := peer.UID(c.(*net.UnixConn))
		if err == nil && uid != os.Geteuid() && uid != owner && uid != 0 {
			err = ErrForeign
		}
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := connect(ctx, "", "")
	if isRefused(err) {
		return nil, ErrStale
	}
	if err != nil {
		return nil, err
	}
	_ = c.Close()
	return &Remote{&http.Client{Transport: &http.Transport{
		DialContext: connect, DisableKeepAlives: true, DisableCompression: true,
	}}}, nil
}

// post sends a request. A reply that is no success is an error.
func (r *Remote) post(ctx context.Context, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", "http://denizen"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	reply, err := r.client.Do(req)
	if err != nil {
		return nil, cutOff(err)
	}
	if reply.StatusCode == http.StatusOK {
		return reply, nil
	}
	defer reply.Body.Close()
	if reply.StatusCode == http.StatusNotFound {
		return nil, errors.New("the process that serves the socket has another version of Denizen")
	}
	var l Line
	err = json.NewDecoder(io.LimitReader(reply.Body, MaxLine)).Decode(&l)
	if err != nil || l.Error == nil {
		return nil, fmt.Errorf("the process that serves the socket answered %s", reply.Status)
	}
	return nil, l.Error.Unpack()
}

func cutOff(err error) error {
	return fmt.Errorf("the process that serves the socket ended the connection: %w", err)
}

// Read implements Source.
func (r *Remote) Read(ctx context.Context, q Query) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		body, err := json.Marshal(q)
		if err != nil {
			yield(nil, err)
			return
		}
		reply, err := r.post(ctx, ReadPath, body)
		if err != nil {
			yield(nil, err)
			return
		}
		defer reply.Body.Close()
		lines := bufio.NewScanner(reply.Body)
		lines.Buffer(nil, MaxLine)
		for lines.Scan() {
			l := Line{Value: empty(q.What)}
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				yield(nil, fmt.Errorf("the socket: %w", err))
				return
			}
			switch {
			case l.End:
				return
			case l.Error != nil:
				yield(nil, l.Error.Unpack())
				return
			case !yield(l.Value, nil):
				return
			}
		}
		err = lines.Err()
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		yield(nil, cutOff(err))
	}
}

// Backup implements Source.
func (r *Remote) Backup(ctx context.Context, w io.Writer) (denizen.Seq, error) {
	reply, err := r.post(ctx, BackupPath, nil)
	if err != nil {
		return 0, err
	}
	defer reply.Body.Close()
	if _, err := io.Copy(w, reply.Body); err != nil {
		return 0, cutOff(err)
	}
	seq, err := strconv.ParseUint(reply.Trailer.Get(SeqTrailer), 10, 64)
	if err != nil {
		return 0, cutOff(io.ErrUnexpectedEOF)
	}
	return denizen.Seq(seq), nil
}

// Compact implements Source.
func (r *Remote) Compact(ctx context.Context) (c Compacted, err error) {
	reply, err := r.post(ctx, CompactPath, nil)
	if err != nil {
		return c, err
	}
	defer reply.Body.Close()
	l := Line{Value: &c}
	switch err := json.NewDecoder(io.LimitReader(reply.Body, MaxLine)).Decode(&l); {
	case err != nil:
		return c, cutOff(err)
	case l.Error != nil:
		return c, l.Error.Unpack()
	}
	return c, nil
}
