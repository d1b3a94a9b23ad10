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

// Import creates the users that an iterator yields. If two rows want the same id or locator, the
// earlier one gets it. See the package on which users are recognised, and [Options] on rows that
// clash.
//
// A row that the iterator yields with [denizen.ErrInvalid] is refused with its Field and Reason.
// The import ends with any other error of the iterator, and with one that has Field "file".
//
// It also ends with an error that is not about one row: the store cannot be reached, ctx has ended,
// or by may not create users. Import returns the error and a [Report] on the rows before it. Call
// it again to go on, also after [denizen.ErrOutcomeUnknown].
//
// The iterator must end when ctx does: Import does not interrupt it.
//
// Some 400 rows are in memory at once, of 8 MiB at most beside the largest one. Except in dry runs
// the memory does not grow with the number of rows, but for what a store keeps of the pages of its
// file. Only .system may.
func Import(
	ctx context.Context, dir *denizen.Directory, by denizen.Principal,
	users iter.Seq2[User, error], o Options,
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
	// Rows that have begun are waited for, also after an error.
	for len(r.chunks) > 0 {
		if failed := r.settle(); err == nil {
			err = failed
		}
	}
	return r.report, err
}

func definitionOf(def denizen.AttributeDef) record.Definition {
	return record.Definition{
		Key: def.Key, ContentTypes: def.ContentTypes, ContentEncodings: def.ContentEncodings,
		NotEmpty: def.NotEmpty, MaxBytes: int64(def.MaxBytes),
		VisibleTo: string(def.VisibleTo), WritableBy: string(def.WritableBy),
	}
}

// These bound the rows in memory. There are enough chunks for the store to commit many users in one
// transaction while the next rows are prepared. With 1,000 rows it is a twentieth faster over a
// file, and a million users take 80 MB of heap instead of 56.
const (
	chunkRows  = 100
	chunkBytes = 2 << 20
	maxChunks  = 4
)

// run is an import in progress. The goroutine that called Import reads the rows into chunks, and
// collects their results in order. Each chunk has a goroutine that prepares its rows. Each row is
// then created by a goroutine of its own, so that the store can commit many at once.
type run struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	importer door.Importer
	o        Options
	serial   bool      // rows are created one by one
	tasks    chan task // for idle workers

	report Report
	over   bool     // an error ended the import: later results are not collected
	rows   int      // how many were read so far
	chunks []*chunk // in progress, the oldest first

	mu     sync.Mutex           // guards wanted
	wanted map[store.Key]*chunk // the last chunk in progress that wants a key
}

// chunk is some rows that are prepared together.
type chunk struct {
	first   int // the number of its first row, less one
	rows    []row
	begun   chan struct{}  // closed when all of its rows have begun
	pending sync.WaitGroup // rows that have begun
	done    chan struct{}  // closed when all of its rows have a result
	err     error          // why its rows could not be looked up
}

// row is one row and its result.
type row struct {
	user     door.Row
	prepared door.Prepared // nil: it was refused before it was created
	outcome  door.Outcome
	err      error
}

// all reads the rows, and begins a chunk whenever it is full.
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

// badRow reports whether an error of the iterator is about one row, and not about the whole source.
func badRow(err error) bool {
	e, ok := errors.AsType[*denizen.Error](err)
	return errors.Is(err, denizen.ErrInvalid) && !(ok && e.Field == fieldFile)
}

// ended returns what ended the import, if anything did.
func (r *run) ended() error {
	cause := context.Cause(r.ctx)
	if cause != nil && cause == r.ctx.Err() {
		// The caller's ctx has ended. Look returns that as the error that all methods return.
		return r.importer.Look(r.ctx, nil)
	}
	return cause
}

func (r *run) newChunk() *chunk {
	return &chunk{
		first: r.rows, rows: make([]row, 0, chunkRows),
		begun: make(chan struct{}), done: make(chan struct{}),
	}
}

// begin starts a chunk. If there are then too many it waits for the oldest one.
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

// do prepares the rows of a chunk, and creates its users once all rows of the chunk before have
// begun.
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

// task is a row to be created: row i of a chunk.
type task struct {
	c *chunk
	i int
}

// work creates users until the import ends. Workers are reused because each has grown its stack.
func (r *run) work(t task) {
	for ok := true; ok; t, ok = <-r.tasks {
		r.create(&t.c.rows[t.i], t.c.first+t.i+1)
		t.c.pending.Done()
	}
}

// prepare checks the rows of a chunk and looks for users who exist.
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

// afterEarlier waits for earlier rows in progress that want one of a row's keys, so that the
// earliest gets it.
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

// forget removes what a chunk wanted from the table.
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

// create creates the user of a row. An error that is not about the row ends the import.
func (r *run) create(at *row, number int) {
	at.outcome, at.err = r.importer.Create(r.ctx, at.prepared, number)
	if at.err != nil && !aboutRow(at.err) {
		r.cancel(at.err)
	}
}

// aboutRow reports whether an error is about one row only.
func aboutRow(err error) bool {
	return errors.Is(err, denizen.ErrInvalid) || errors.Is(err, denizen.ErrLimited) || errors.Is(err, denizen.ErrConflict)
}

// settle waits for the oldest chunk and collects the results of its rows, up to the first error
// that ends the import.
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

// take counts the result of a row and calls Each.
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
		p := Problem{
			Field: "locator", Rule: "belongs to another user", Value: t.Locator,
			Owner: denizen.UserID(t.User), OwnerRow: t.Row,
		}
		if t.Rests {
			p.Rule = "rests after another user gave it up"
		}
		if t.Locator == "" {
			p.Field, p.Rule = "id", "belongs to another user, who was made at another time"
			if t.User != out.ID && t.User != "" {
				p.Rule = "is an alias of another user"
			}
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

// problemOf returns an error about a row as a problem.
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

// rowOf returns a user in the form that the door takes.
func rowOf(u User) door.Row {
	r := door.Row{
		ID: string(u.ID), ScreenName: u.ScreenName,
		Blocked: u.Blocked, Reason: u.Block.Reason, Until: millis(u.Block.Until),
		Created: millis(u.CreatedAt), Updated: millis(u.UpdatedAt),
		Locators:   make([]door.Locator, len(u.Locators)),
		Attributes: make([]record.Attribute, len(u.Attributes)),
	}
	for i, l := range u.Locators {
		r.Locators[i] = door.Locator{
			Locator: l.Locator, Status: string(l.Status), Claim: l.Claim,
			Added: millis(l.AddedAt), Verified: millis(l.VerifiedAt),
		}
	}
	for i, a := range u.Attributes {
		r.Attributes[i] = record.Attribute(a)
	}
	return r
}

// millis returns a time in Unix milliseconds, or 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// sizeOf returns about how many bytes of memory a row takes.
func sizeOf(u User) int {
	n := 512 + len(u.ID) + len(u.ScreenName) + len(u.Block.Reason)
	for _, l := range u.Locators {
		n += 256 + len(l.Locator)
	}
	for _, a := range u.Attributes {
		n += 256 + len(a.Key) + len(a.ContentType) + len(a.ContentEncoding) + len(a.Value)
	}
	return n
}
