package transfer

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/record"
)

// Exported is what was written by [Export].
type Exported struct {
	Users int
	// First and Last are the places of the feed before the first user was read and after the last.
	// Events after First tell of what the file may lack.
	First, Last denizen.Seq
	// Damaged is users that cannot be read: the first MaxProblems. DamagedUsers is how many there are.
	Damaged      []denizen.UserID
	DamagedUsers int
}

// maxPage is how many users are read at once, at most: fewer, where they have much to them.
const (
	maxPage   = 250
	firstPage = 16
	pageBytes = 1 << 20
)

// Export writes everybody in a directory as JSON Lines, in bytewise order of their ids; see [Schema].
// Each user is written as it was at one moment, with its locators, claims and attributes. Those who
// are created, changed or deleted meanwhile are in the file or not, as they were or as they are. No
// secret is written, and nothing by which anybody could come in.
//
// The first line holds the place in the feed, and the definitions of attributes; the last one the
// place and how many users there are, so that a file that was cut off is known by it. A user who is
// damaged is named and passed over. It takes the memory of some hundred users.
//
// It ends with the first error of w or of the directory. What was written then lacks its last
// line. Only .system may.
func Export(ctx context.Context, dir *denizen.Directory, by denizen.Principal, w io.Writer) (done Exported, err error) {
	if done.First, err = dir.Head(ctx, by); err != nil {
		return done, err
	}
	defs, err := dir.AttributeDefs(ctx, by)
	if err != nil {
		return done, err
	}
	begin := beginLine{
		Kind: kindBegin, Format: format, Directory: dir.ID(), At: time.Now().UTC().Truncate(time.Millisecond), Seq: uint64(done.First),
	}
	for _, d := range defs {
		begin.Attributes = append(begin.Attributes, attrLine{
			Key: d.Key, ContentTypes: d.ContentTypes, ContentEncodings: d.ContentEncodings, NotEmpty: d.NotEmpty,
			MaxBytes: d.MaxBytes, VisibleTo: string(d.VisibleTo), WritableBy: string(d.WritableBy),
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
	end := endLine{Kind: kindEnd, Seq: uint64(done.Last), Users: done.Users, Damaged: done.DamagedUsers}
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

// people writes everybody, page by page.
func (done *Exported) people(ctx context.Context, through door.Directory, by denizen.Principal, w *bufio.Writer) error {
	after, limit := "", firstPage
	var line []byte
	for {
		page, err := through.People(ctx, by, after, limit)
		if err != nil {
			return err
		}
		bytes := 0
		for i := range page {
			after = page[i].ID
			if line, err = done.person(line[:0], &page[i]); err != nil {
				return err
			}
			bytes += len(line)
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		if len(page) < limit {
			return nil
		}
		limit = min(maxPage, 2*limit, max(1, limit*pageBytes/max(1, bytes)))
	}
}

// person appends the line of a user.
func (done *Exported) person(line []byte, p *door.Person) ([]byte, error) {
	if p.Damaged {
		if done.DamagedUsers++; len(done.Damaged) < MaxProblems {
			done.Damaged = append(done.Damaged, denizen.UserID(p.ID))
		}
		line = append(line, `{"kind":"damaged","id":`...)
		return append(appendString(line, p.ID), '}', '\n'), nil
	}
	done.Users++
	return appendUser(line, p.User, p.Profile), nil
}

// appendUser appends a userLine. It is spelled by hand for the sake of a million of them.
func appendUser(b []byte, u *record.User, profile []record.Attribute) []byte {
	b = append(b, `{"kind":"user","id":`...)
	b = appendString(b, u.ID)
	b = append(b, `,"screenName":`...)
	b = appendString(b, u.ScreenName)
	if u.Blocked {
		b = append(b, `,"blocked":true`...)
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

// begins returns how the element of a list begins.
func begins(i int, first, other string) string {
	if i == 0 {
		return first
	}
	return other
}

// appendTime appends a member of a time, unless that is never.
func appendTime(b []byte, name string, ms int64) []byte {
	if ms == 0 {
		return b
	}
	b = append(b, name...)
	return append(time.UnixMilli(ms).UTC().AppendFormat(b, "2006-01-02T15:04:05.999Z07:00"), '"')
}

// appendString appends a JSON string. What is stored is valid UTF-8.
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
