package transfer

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Import creates the users that an iterator yields, in their order: of two rows that want the same
// the earlier one gets it. See the package for who is found again, and Options for what becomes of
// a row that clashes.
//
// A row with ErrInvalid beside the user is refused with its Field and Reason. Any other error of
// the iterator, and one with Field "file", ends the import, and so does whatever is not about one row: that the store cannot be
// reached, that ctx ends, that by may not create users. The error is then returned with a Report of
// what came of the rows so far, and importing again goes on. The same holds after
// ErrOutcomeUnknown. The iterator must end by itself when ctx does.
//
// Some 1,000 rows are under way at once, and no more than 10 MiB of them beside the largest. The
// memory taken does not grow with the number of rows, dry runs apart. Only .system may.
func Import(
	ctx context.Context, dir *denizen.Directory, by denizen.Principal, users iter.Seq2[User, error], o Options,
) (Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	through := door.Of(dir)
	im, err := through.Importer(ctx, by, door.ImportOptions{
		Trust: o.TrustVerified, TakeFree: o.OnClash == TakeFree, DryRun: o.DryRun,
	})
	if err != nil {
		return Report{}, err
	}
	for _, def := range o.Define {
		if err := im.Define(ctx, definitionOf(def)); err != nil {
			return Report{}, err
		}
	}
	r := &run{
		ctx: ctx, cancel: cancel, importer: im, o: o, serial: o.DryRun || through.Serial(),
		tasks: make(chan task), wanted: map[store.Key]*chunk{},
	}
	defer close(r.tasks)
	err = r.all(users)
	// Whatever ended the rows, what is under way is waited for.
	for len(r.chunks) > 0 {
		if failed := r.settle(); err == nil {
			err = failed
		}
	}
	return r.report, err
}

func definitionOf(def denizen.AttributeDef) record.Definition {
	return record.Definition{
		Key: def.Key, ContentTypes: def.ContentTypes, ContentEncodings: def.ContentEncodings, NotEmpty: def.NotEmpty,
		MaxBytes: int64(def.MaxBytes), VisibleTo: string(def.VisibleTo), WritableBy: string(def.WritableBy),
	}
}

// How much is under way at once. The store commits up to a thousand users in one transaction, while
// the next thousand is made ready.
const (
	chunkRows  = 200
	chunkBytes = 2 << 20
	maxChunks  = 5
)

// run is an import under way. The goroutine that called Import reads the rows into chunks and takes
// what came of them, in order. Each chunk has a goroutine that makes its rows ready, and each of its
// rows one that creates the user.
type run struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	importer door.Importer
	o        Options
	serial   bool      // rows are created one by one
	tasks    chan task // for workers that have nothing to do

	report Report
	over   bool     // an error ended the import, and nothing is taken any more
	rows   int      // read so far
	chunks []*chunk // under way, the oldest first

	mu     sync.Mutex
	wanted map[store.Key]*chunk // which of the chunks under way wants a key
}

// chunk is some rows that are made ready together.
type chunk struct {
	first   int // the number of its first row, less one
	rows    []row
	begun   chan struct{}  // closed when all of its rows have begun
	pending sync.WaitGroup // of rows that have begun
	done    chan struct{}  // closed when something has come of all of its rows
	err     error          // that none of its rows could be looked up for
}

// row is one row, and what came of it.
type row struct {
	user     door.Row
	prepared door.Prepared // nil: it was refused at once
	outcome  door.Outcome
	err      error
}

// all reads the rows.
func (r *run) all(users iter.Seq2[User, error]) error {
	c, bytes := r.newChunk(), 0
	for u, err := range users {
		if err != nil && !badRow(err) {
			return cmp.Or(r.begin(c), err)
		}
		if ended := r.ended(); ended != nil {
			return ended
		}
		r.rows++
		c.rows = append(c.rows, row{user: rowOf(u), err: err})
		bytes += sizeOf(u)
		if len(c.rows) < chunkRows && bytes < chunkBytes {
			continue
		}
		if err := r.begin(c); err != nil {
			return err
		}
		c, bytes = r.newChunk(), 0
	}
	return r.begin(c)
}

// badRow reports whether an error of the iterator is about one row, and not about all of the source.
func badRow(err error) bool {
	e, ok := errors.AsType[*denizen.Error](err)
	return errors.Is(err, denizen.ErrInvalid) && !(ok && e.Field == fieldFile)
}

// ended returns what ended the import, if anything did.
func (r *run) ended() error {
	cause := context.Cause(r.ctx)
	if cause != nil && cause == r.ctx.Err() { // it was not ended from here
		return r.importer.Look(r.ctx, nil)
	}
	return cause
}

func (r *run) newChunk() *chunk {
	return &chunk{first: r.rows, begun: make(chan struct{}), done: make(chan struct{}), rows: make([]row, 0, chunkRows)}
}

// begin sets a chunk going, and takes what came of the oldest one where there would be too many.
func (r *run) begin(c *chunk) error {
	before := make(chan struct{})
	if n := len(r.chunks); n > 0 {
		before = r.chunks[n-1].begun
	} else {
		close(before)
	}
	r.chunks = append(r.chunks, c)
	go r.do(c, before)
	if len(r.chunks) < maxChunks {
		return nil
	}
	return r.settle()
}

// do has the users of a chunk created, after all rows of the chunk before have begun.
func (r *run) do(c *chunk, before chan struct{}) {
	defer close(c.done)
	defer r.forget(c)
	defer c.pending.Wait()
	defer close(c.begun)
	c.err = r.prepare(c)
	<-before
	if c.err != nil {
		return
	}
	for i := range c.rows {
		at := &c.rows[i]
		if at.prepared == nil {
			continue
		}
		if r.serial {
			r.create(at, c.first+i+1)
			continue
		}
		r.afterEarlier(c, at)
		c.pending.Add(1)
		select {
		case r.tasks <- task{c, i}:
		default:
			go r.work(task{c, i})
		}
	}
}

// task is a row to be created: the one at i of a chunk.
type task struct {
	c *chunk
	i int
}

// work creates users until the import is over. Workers are kept, since each has grown its stack.
func (r *run) work(t task) {
	for ok := true; ok; t, ok = <-r.tasks {
		r.create(&t.c.rows[t.i], t.c.first+t.i+1)
		t.c.pending.Done()
	}
}

// prepare judges the rows of a chunk and looks for those who are there.
func (r *run) prepare(c *chunk) error {
	prepared := make([]door.Prepared, 0, len(c.rows))
	for i := range c.rows {
		at := &c.rows[i]
		if at.err != nil {
			continue
		}
		if at.prepared, at.err = r.importer.Prepare(at.user); at.err == nil {
			prepared = append(prepared, at.prepared)
		}
	}
	return r.importer.Look(r.ctx, prepared)
}

// afterEarlier waits while an earlier row under way wants one of the keys of a row. So it does not
// depend on luck which of them gets it.
func (r *run) afterEarlier(c *chunk, at *row) {
	for _, key := range at.prepared.Keys() {
		r.mu.Lock()
		earlier := r.wanted[key]
		r.wanted[key] = c
		r.mu.Unlock()
		switch {
		case earlier == c:
			c.pending.Wait()
		case earlier != nil:
			<-earlier.done
		}
	}
}

// forget takes what a chunk wanted out of the table.
func (r *run) forget(c *chunk) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range c.rows {
		if p := c.rows[i].prepared; p != nil {
			for _, key := range p.Keys() {
				if r.wanted[key] == c {
					delete(r.wanted, key)
				}
			}
		}
	}
}

// create creates the user of a row. What is not about the row ends the import.
func (r *run) create(at *row, number int) {
	if at.outcome, at.err = r.importer.Create(r.ctx, at.prepared, number); at.err != nil && !aboutRow(at.err) {
		r.cancel(at.err)
	}
}

// aboutRow reports whether an error is about one row alone.
func aboutRow(err error) bool {
	return errors.Is(err, denizen.ErrInvalid) || errors.Is(err, denizen.ErrLimited) || errors.Is(err, denizen.ErrConflict)
}

// settle waits for the oldest chunk and takes what came of its rows, up to the first one that an
// error ended the import at.
func (r *run) settle() error {
	c := r.chunks[0]
	r.chunks = r.chunks[1:]
	<-c.done
	if r.over {
		return nil
	}
	err := r.takeAll(c)
	if err != nil {
		r.over = true
		r.cancel(err)
	}
	if r.o.Progress != nil {
		r.o.Progress(r.report)
	}
	return err
}

func (r *run) takeAll(c *chunk) error {
	if c.err != nil {
		return c.err
	}
	for i := range c.rows {
		at := &c.rows[i]
		if at.err != nil && !aboutRow(at.err) {
			return cmp.Or(r.ended(), at.err)
		}
		if err := r.take(at, c.first+i+1); err != nil {
			return err
		}
	}
	return nil
}

// take counts what came of a row, and tells Each.
func (r *run) take(at *row, number int) error {
	result := Result{Row: number, ID: denizen.UserID(at.user.ID)}
	add := func(p Problem) {
		p.Row, p.ID = number, denizen.UserID(at.user.ID)
		result.Problems = append(result.Problems, p)
		if len(r.report.Problems) < MaxProblems {
			r.report.Problems = append(r.report.Problems, p)
		} else {
			r.report.More++
		}
	}
	out := &at.outcome
	for _, t := range out.Taken {
		p := Problem{Value: t.Locator, Owner: denizen.UserID(t.User), OwnerRow: t.Row, Field: "locator", Rule: "belongs to another user"}
		if t.Rests {
			p.Rule = "rests after another user gave it up"
		}
		if t.Locator == "" {
			p.Field, p.Rule = "id", "belongs to another user, who was made at another time"
		}
		add(p)
	}
	switch {
	case at.err != nil:
		result.Outcome = Refused
		add(problemOf(at.err))
	case out.Damaged:
		result.Outcome = Refused
		add(Problem{Field: "id", Rule: "a record of this user, or of one of its locators, is damaged"})
	case out.There:
		result.Outcome = Present
	case out.Refuse && r.o.OnClash == Skip:
		result.Outcome = Skipped
	case out.Refuse:
		result.Outcome = Refused
	default:
		result.Outcome = Created
		r.report.Doubted += at.prepared.Doubted()
		if len(out.Taken) > 0 {
			r.report.Partly++
		}
	}
	if result.Outcome == Created || result.Outcome == Present {
		result.ID = denizen.UserID(out.ID)
	}
	r.report.Rows++
	*r.count(result.Outcome)++
	if r.o.Each == nil {
		return nil
	}
	return r.o.Each(result)
}

func (r *run) count(o Outcome) *int {
	switch o {
	case Created:
		return &r.report.Created
	case Present:
		return &r.report.Present
	case Skipped:
		return &r.report.Skipped
	}
	return &r.report.Refused
}

// problemOf returns what an error says of a row.
func problemOf(err error) Problem {
	e, ok := errors.AsType[*denizen.Error](err)
	if !ok {
		return Problem{Field: "row", Rule: "cannot be read"}
	}
	p := Problem{Field: cmp.Or(e.Field, "row"), Rule: e.Reason}
	if len(e.Missing) > 0 {
		p.Value = e.Missing[0]
	}
	return p
}

// rowOf returns a user as the door takes it.
func rowOf(u User) door.Row {
	r := door.Row{
		ID: string(u.ID), ScreenName: u.ScreenName, Blocked: u.Blocked,
		Created: millis(u.CreatedAt), Updated: millis(u.UpdatedAt),
		Locators: make([]door.Locator, len(u.Locators)), Attributes: make([]record.Attribute, len(u.Attributes)),
	}
	for i, l := range u.Locators {
		r.Locators[i] = door.Locator{
			Locator: l.Locator, Status: string(l.Status), Claim: l.Claim, Added: millis(l.AddedAt), Verified: millis(l.VerifiedAt),
		}
	}
	for i, a := range u.Attributes {
		r.Attributes[i] = record.Attribute(a)
	}
	return r
}

// millis returns a time as it is stored, 0 for none.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// sizeOf returns about what a row takes in memory.
func sizeOf(u User) int {
	n := 512 + len(u.ID) + len(u.ScreenName)
	for _, l := range u.Locators {
		n += 256 + len(l.Locator)
	}
	for _, a := range u.Attributes {
		n += 256 + len(a.Key) + len(a.ContentType) + len(a.ContentEncoding) + len(a.Value)
	}
	return n
}
