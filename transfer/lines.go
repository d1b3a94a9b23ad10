package transfer

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
	"unicode/utf8"

	"github.com/denizenhq/denizen"
)

// Schema is the JSON Schema (draft 2020-12) of a line that [Export] writes and [Open] reads.
//
//go:embed schema.json
var Schema string

// MaxLine is how long a line of a file may be, in bytes, without its line break.
const MaxLine = 4 << 20

const format = 1

// The kinds of lines.
const (
	kindBegin   = "begin"
	kindUser    = "user"
	kindDamaged = "damaged"
	kindEnd     = "end"
)

// beginLine is the first line.
type beginLine struct {
	Kind       string     `json:"kind"`
	Format     int        `json:"format"`
	Directory  string     `json:"directory,omitempty"`
	At         time.Time  `json:"at,omitzero"`
	Cursor     string     `json:"cursor,omitempty"`
	Attributes []attrLine `json:"attributes,omitempty"`
}

// attrLine is the definition of an attribute.
type attrLine struct {
	Key              string   `json:"key"`
	ContentTypes     []string `json:"contentTypes,omitempty"`
	ContentEncodings []string `json:"contentEncodings,omitempty"`
	NotEmpty         bool     `json:"notEmpty,omitempty"`
	MaxBytes         int      `json:"maxBytes,omitempty"`
	VisibleTo        string   `json:"visibleTo,omitempty"`
	WritableBy       string   `json:"writableBy,omitempty"`
}

// userLine is the line of a user. Empty members are left out.
type userLine struct {
	Kind         string        `json:"kind"`
	ID           string        `json:"id,omitempty"`
	ScreenName   string        `json:"screenName,omitempty"`
	Blocked      bool          `json:"blocked,omitempty"`
	BlockedUntil time.Time     `json:"blockedUntil,omitzero"`
	BlockReason  string        `json:"blockReason,omitempty"`
	CreatedAt    time.Time     `json:"createdAt,omitzero"`
	UpdatedAt    time.Time     `json:"updatedAt,omitzero"`
	Locators     []locatorLine `json:"locators,omitempty"`
	Attributes   []valueLine   `json:"attributes,omitempty"`
}

type locatorLine struct {
	Locator    string    `json:"locator"`
	Status     string    `json:"status,omitempty"`
	Claim      bool      `json:"claim,omitempty"`
	AddedAt    time.Time `json:"addedAt,omitzero"`
	VerifiedAt time.Time `json:"verifiedAt,omitzero"`
}

type valueLine struct {
	Key             string `json:"key"`
	ContentType     string `json:"contentType,omitempty"`
	ContentEncoding string `json:"contentEncoding,omitempty"`
	Value           string `json:"value"`
}

// endLine is the last line.
type endLine struct {
	Kind    string `json:"kind"`
	Cursor  string `json:"cursor,omitempty"`
	Users   int    `json:"users"`
	Damaged int    `json:"damaged,omitempty"`
}

// File is a file of users that is being read. It must not be used by several goroutines at once.
type File struct {
	// Directory is the ID of the directory that the users came from, At is when, and Cursor is
	// the place in its feed. They are zero if the file does not say.
	Directory string
	At        time.Time
	Cursor    denizen.Cursor
	// Definitions are the definitions of the users' attributes, for [Options].Define.
	Definitions []denizen.AttributeDef

	lines lines
	users int
}

// Open reads the first line of a file that [Export] wrote. If it is no such file, or of another
// format, it is [denizen.ErrInvalid] with Field "file". Errors of r are returned as they are.
func Open(r io.Reader) (*File, error) {
	f := &File{lines: lines{r: bufio.NewReaderSize(r, 64<<10)}}
	line, err := f.lines.next()
	if err == io.EOF {
		return nil, badFile("is empty")
	}
	if err != nil && !errors.Is(err, denizen.ErrInvalid) {
		return nil, err
	}
	var begin beginLine
	if err != nil || kindOf(line) != kindBegin || strict(line, &begin) != nil {
		return nil, badFile("does not begin with a line of the kind begin")
	}
	if begin.Format != format {
		return nil, badFile(fmt.Sprintf("is of format %d, and known is %d", begin.Format, format))
	}
	f.Directory, f.At, f.Cursor = begin.Directory, begin.At, denizen.Cursor(begin.Cursor)
	for _, a := range begin.Attributes {
		f.Definitions = append(f.Definitions, denizen.AttributeDef{
			Key: a.Key, ContentTypes: a.ContentTypes, ContentEncodings: a.ContentEncodings,
			NotEmpty: a.NotEmpty, MaxBytes: a.MaxBytes,
			VisibleTo: denizen.Audience(a.VisibleTo), WritableBy: denizen.Audience(a.WritableBy),
		})
	}
	return f, nil
}

// Users yields the users of the file, for [Import]. It can be ranged over once.
//
// For a line that cannot be used it yields [denizen.ErrInvalid] and goes on. A line that names a
// user who was damaged when the file was written is one of those. If the file was cut off it yields
// ErrInvalid with Field "file" and ends. It yields errors of the reader and ends, too.
func (f *File) Users() iter.Seq2[User, error] {
	return func(yield func(User, error) bool) {
		for {
			line, err := f.lines.next()
			if err == io.EOF {
				yield(User{}, badFile("was cut off: it has no last line"))
				return
			}
			if err != nil && !errors.Is(err, denizen.ErrInvalid) {
				yield(User{}, err)
				return
			}
			var u User
			if err == nil {
				if kindOf(line) == kindEnd {
					if err := f.end(line); err != nil {
						yield(User{}, err)
					}
					return
				}
				u, err = parseUser(line)
			}
			f.users++
			if !yield(u, err) {
				return
			}
		}
	}
}

// end checks the last line, and that nothing follows it.
func (f *File) end(line []byte) error {
	var end endLine
	if strict(line, &end) != nil {
		return badFile("has a last line that cannot be read")
	}
	if end.Users+end.Damaged != f.users {
		return badFile("lacks some of its lines, or has too many")
	}
	if _, err := f.lines.next(); err != io.EOF {
		return badFile("goes on after its last line")
	}
	return nil
}

// parseUser reads a line that is neither the first nor the last.
func parseUser(line []byte) (User, error) {
	switch kindOf(line) {
	case kindDamaged:
		var damaged struct {
			Kind string `json:"kind"`
			ID   string `json:"id"`
		}
		if strict(line, &damaged) != nil {
			break
		}
		u := User{ID: denizen.UserID(damaged.ID)}
		return u, badLine("user", "was damaged where the file was written")
	case kindUser:
		var l userLine
		if strict(line, &l) != nil {
			break
		}
		return userOf(&l), nil
	}
	return User{}, badLine("line", "does not follow the schema of a user")
}

func userOf(l *userLine) User {
	u := User{
		ID: denizen.UserID(l.ID), ScreenName: l.ScreenName,
		Blocked: l.Blocked, Block: denizen.Block{Reason: l.BlockReason, Until: l.BlockedUntil},
		CreatedAt: l.CreatedAt, UpdatedAt: l.UpdatedAt,
	}
	for _, at := range l.Locators {
		u.Locators = append(u.Locators, Locator{
			Locator: at.Locator, Status: denizen.VerificationStatus(at.Status), Claim: at.Claim,
			AddedAt: at.AddedAt, VerifiedAt: at.VerifiedAt,
		})
	}
	for _, a := range l.Attributes {
		u.Attributes = append(u.Attributes, denizen.Attribute(a))
	}
	return u
}

// kindOf returns the kind of a line. It need not decode the line if kind is the first member, as in
// what Export writes.
func kindOf(line []byte) string {
	rest, ok := bytes.CutPrefix(line, []byte(`{"kind":"`))
	kind, _, _ := bytes.Cut(rest, []byte{'"'})
	if !ok || bytes.IndexByte(kind, '\\') >= 0 {
		var l struct {
			Kind string `json:"kind"`
		}
		_ = json.Unmarshal(line, &l) // a line that is not JSON has no kind
		return l.Kind
	}
	return string(kind)
}

// strict decodes one JSON object and refuses unknown members, because a misspelled one would be
// lost silently.
func strict(line []byte, into any) error {
	if !utf8.Valid(line) { // package json would replace what is not
		return errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more in the line")
	}
	return nil
}

// fieldFile is the Field of errors about a whole file.
const fieldFile = "file"

func badFile(rule string) error { return badLine(fieldFile, rule) }

func badLine(field, rule string) error {
	return &denizen.Error{Op: "Import", Kind: denizen.ErrInvalid, Field: field, Reason: rule}
}

// lines reads lines of at most MaxLine bytes.
type lines struct {
	r   *bufio.Reader
	buf []byte // holds a line that is longer than the buffer of r
}

// next returns the next line that is not empty. The line is valid until the next call. If it is too
// long, next skips it and returns ErrInvalid.
func (l *lines) next() ([]byte, error) {
	for {
		line, err := l.line()
		if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

func (l *lines) line() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if err == nil || err == io.EOF && len(line) > 0 {
		return line, nil
	}
	if err != bufio.ErrBufferFull {
		return nil, err
	}
	l.buf = append(l.buf[:0], line...)
	for err == bufio.ErrBufferFull {
		line, err = l.r.ReadSlice('\n')
		if len(l.buf) <= MaxLine {
			l.buf = append(l.buf, line...)
		}
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(bytes.TrimRight(l.buf, "\r\n")) > MaxLine {
		l.buf = nil
		return nil, badLine("line", "is longer than 4194304 bytes")
	}
	return l.buf, nil
}
