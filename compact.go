package denizen

import (
	"context"
	"errors"

	"github.com/denizenhq/denizen/store"
)

// Compact makes the directory's file as small as what is stored in it, while the directory is in
// use. [FileStats] says when it is worth it. It needs as much space on the disk as it leaves.
//
// Nothing is in the way of reads. Writes wait for a moment at the end, until the last of what was
// written meanwhile is brought over to the new file: some milliseconds on most disks, and at most a
// second and three syncs. It is safe to kill the process at any time.
//
// If too much is written meanwhile, or the file is being compacted already, the error is
// [ErrConflict]: try again when there is less to do. A damaged page is [ErrCorrupt]. After these
// errors, and any other but [ErrOutcomeUnknown], all is as it was. After ErrOutcomeUnknown nothing is
// lost, but writes are refused until the directory is opened anew: see [Directory.Health].
//
// Only a directory in a file can be compacted: any other is [ErrInvalid] with Field "store", and so
// is each on Windows. Only .system may.
func (d *Directory) Compact(ctx context.Context, by Principal) (err error) {
	defer d.trace(&ctx, "Compact", &by).end(&err)
	c, err := d.enter(ctx, opOperate, by, noTarget)
	if err != nil {
		return err
	}
	if _, err := d.read(ctx, &c); err != nil {
		return err
	}
	compacter, ok := d.store.(store.Compacter)
	if !ok {
		return invalid("store", "is not a file")
	}
	switch err = compacter.Compact(ctx); {
	case errors.Is(err, errors.ErrUnsupported):
		return &Error{
			Kind: ErrInvalid, Field: "store", Reason: "cannot be compacted on this system", cause: err,
		}
	case errors.Is(err, store.ErrBusy):
		return &Error{
			Kind: ErrConflict, Field: "store", Reason: "too much is going on", cause: err,
		}
	}
	return err
}

// FileStats is figures of the file that a directory is in. They are zero over any other store.
type FileStats struct {
	Bytes int64 // the length of the file
	// Free is how much of it is free: room that deletions left, and that later writes use first.
	// Each commit writes the list of the free pages, so it writes about 2 KiB more for each MiB.
	Free int64
	// WorthCompacting reports whether Directory.Compact is worth it: half of the file is free, and
	// 16 MiB or more.
	WorthCompacting bool
}

const worthCompacting = 16 << 20

// fileStats returns the figures of a store that is a file.
func fileStats(ctx context.Context, s store.Store) (f FileStats, err error) {
	if compacter, ok := s.(store.Compacter); ok {
		f.Bytes, f.Free, err = compacter.FileSize(ctx)
		f.WorthCompacting = f.Free >= worthCompacting && f.Free >= f.Bytes/2
	}
	return f, err
}
