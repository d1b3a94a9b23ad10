package transfer

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/record"
)

// Exported is what [Export] wrote.
type Exported struct {
	Users int
	// First and Last are the places in the feed before the first user was read and after the last.
	// The events after First are of changes that the file may lack.
	First, Last denizen.Cursor
	// Damaged holds the first MaxProblems users that cannot be read. DamagedUsers is their number.
	Damaged      []denizen.UserID
	DamagedUsers int
}

// A page begins small and grows to maxPage users, or to as many as fill about pageBytes. So many
// pages are in memory: one that is written, and others that are read meanwhile.
const (
	maxPage   = 100
	firstPage = 16
	pageBytes = 1 << 20
	pages     = 4
)

// Export writes all users of a directory as JSON Lines, in bytewise order of their ids: see
// [Schema]. It uses as much memory as some hundred users take.
//
// Each user is written as it was at one moment, with its locators, claims and attributes. If it is
// created, changed or deleted meanwhile, the file may or may not show that. The file holds no
// secrets and nothing that lets anybody sign in.
//
// The first line holds the place in the feed and the definitions of attributes. The last line holds
// the place and the number of users, so a file that was cut off is recognised. A user who is
// damaged has a line with nothing but the id.
//
// Export ends with the first error of w or of the directory. The file then has no last line. Only
// .system may.
func Export(
	ctx context.Context, dir *denizen.Directory, by denizen.Principal, w io.Writer,
) (done Exported, err error) {
	if done.First, err = dir.Head(ctx, by); err != nil {
		return done, err
	}
	defs, err := dir.AttributeDefs(ctx, by)
	if err != nil {
		return done, err
	}
	begin := beginLine{
		Kind: kindBegin, Format: format, Directory: dir.ID(),
		At: time.Now().UTC().Truncate(time.Millisecond), Cursor: string(done.First),
	}
	for _, d := range defs {
		begin.Attributes = append(begin.Attributes, attrLine{
			Key: d.Key, ContentTypes: d.ContentTypes, ContentEncodings: d.ContentEncodings,
			NotEmpty: d.NotEmpty, MaxBytes: d.MaxBytes,
			VisibleTo: string(d.VisibleTo), WritableBy: string(d.WritableBy),
		})
	}
	buffered := bufio.NewWriterSize(w, 256<<10)
	if err := writeLine(buffered, begin); err != nil {
		return done, err
	}
	if err := done.people(ctx, door.Of(dir), by, buffered); err != nil {
		return done, err
	}
	if done.Last, err = dir.Head(ctx, by); err != nil {
		return done, err
	}
	end := endLine{
		Kind: kindEnd, Cursor: string(done.Last), Users: done.Users, Damaged: done.DamagedUsers,
	}
	if err := writeLine(buffered, end); err != nil {
		return done, err
	}
	return done, buffered.Flush()
}

func writeLine(w io.Writer, line any) error {
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// page is some users, who are being read until read is closed.
type page struct {
	ids    []string
	read   chan struct{}
	people []door.Person
	err    error
}

// people writes all users, page by page, while the next pages are read.
func (done *Exported) people(
	ctx context.Context, through door.Directory, by denizen.Principal, w *bufio.Writer,
) error {
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	most := pages
	if through.Serial() {
		most = 1
	}
	var ahead []*page // in order
	var line []byte
	for after, limit, last := "", firstPage, false; ; {
		for !last && len(ahead) < most {
			p := &page{read: make(chan struct{})}
			ahead = append(ahead, p)
			p.ids, p.err = through.List(ctx, by, after, limit)
			if last = len(p.ids) < limit; len(p.ids) == 0 {
				close(p.read)
				break
			}
			after = p.ids[len(p.ids)-1]
			reading.Go(func() {
				defer close(p.read)
				p.people, p.err = through.People(ctx, by, p.ids)
			})
		}
		if len(ahead) == 0 {
			return nil
		}
		p := ahead[0]
		ahead = ahead[1:]
		<-p.read
		if p.err != nil {
			return p.err
		}
		bytes := 0
		for i := range p.people {
			line = done.person(line[:0], &p.people[i])
			bytes += len(line)
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		limit = min(maxPage, 2*limit, max(1, len(p.ids)*pageBytes/max(1, bytes)))
	}
}

// person appends the line of a user.
func (done *Exported) person(line []byte, p *door.Person) []byte {
	if p.Damaged {
		if done.DamagedUsers++; len(done.Damaged) < MaxProblems {
			done.Damaged = append(done.Damaged, denizen.UserID(p.ID))
		}
		line = append(line, `{"kind":"damaged","id":`...)
		return append(appendString(line, p.ID), '}', '\n')
	}
	done.Users++
	return appendUser(line, p.User, p.Profile)
}

// appendUser appends a userLine. It is written by hand because encoding/json is too slow for a
// million users.
func appendUser(b []byte, u *record.User, profile []record.Attribute) []byte {
	b = append(b, `{"kind":"user","id":`...)
	b = appendString(b, u.ID)
	b = append(b, `,"screenName":`...)
	b = appendString(b, u.ScreenName)
	if u.Blocked {
		b = append(b, `,"blocked":true`...)
		b = appendTime(b, `,"blockedUntil":"`, u.BlockedUntil)
		if u.BlockReason != "" {
			b = append(b, `,"blockReason":`...)
			b = appendString(b, u.BlockReason)
		}
	}
	b = appendTime(b, `,"createdAt":"`, u.Created)
	b = appendTime(b, `,"updatedAt":"`, u.Updated)
	for i := range u.Locators {
		l := &u.Locators[i]
		b = append(b, begins(i, `,"locators":[{"locator":`, `,{"locator":`)...)
		b = appendString(b, l.Type+":"+l.Raw)
		b = append(b, `,"status":`...)
		b = appendString(b, l.Status)
		if !l.Owned {
			b = append(b, `,"claim":true`...)
		}
		b = appendTime(b, `,"addedAt":"`, l.Added)
		b = appendTime(b, `,"verifiedAt":"`, l.Verified)
		b = append(b, '}')
	}
	if len(u.Locators) > 0 {
		b = append(b, ']')
	}
	for i := range profile {
		a := &profile[i]
		b = append(b, begins(i, `,"attributes":[{"key":`, `,{"key":`)...)
		b = appendString(b, a.Key)
		if a.ContentType != "text/plain" {
			b = append(b, `,"contentType":`...)
			b = appendString(b, a.ContentType)
		}
		if a.ContentEncoding != "identity" {
			b = append(b, `,"contentEncoding":`...)
			b = appendString(b, a.ContentEncoding)
		}
		b = append(b, `,"value":`...)
		b = appendString(b, a.Value)
		b = append(b, '}')
	}
	if len(profile) > 0 {
		b = append(b, ']')
	}
	return append(b, '}', '\n')
}

// begins returns how element i of a list begins.
func begins(i int, first, other string) string {
	if i == 0 {
		return first
	}
	return other
}

// appendTime appends a member that holds a time, unless the time is zero.
func appendTime(b []byte, name string, ms int64) []byte {
	if ms == 0 {
		return b
	}
	b = append(b, name...)
	return append(time.UnixMilli(ms).UTC().AppendFormat(b, "2006-01-02T15:04:05.999Z07:00"), '"')
}

// appendString appends a JSON string. It does not check s, because what is stored is valid UTF-8.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexadecimal[c>>4], hexadecimal[c&15])
		}
		from = i + 1
	}
	return append(append(b, s[from:]...), '"')
}
