package bolt

import (
	"context"
	"errors"
	"io"
)

// backupChunk is how many bytes a backup copies between two checks of its context.
const backupChunk = 1 << 20

// Backup writes a copy of the file to w, as of the latest commit. The copy is a file that [Open]
// accepts. Damaged records are damaged in the copy as well.
//
// Reads and writes go on during a backup, however slow w is. The file grows with a slow w, because
// commits cannot reuse the pages that are still to be copied. On a system that does not let Open
// map more memory than the file needs, a commit that has to map a longer file waits for the backup.
//
// Backup returns the error of ctx as soon as it notices that ctx has ended: it checks between
// writes of at most 1 MiB, and cannot interrupt one.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	return s.view(ctx, func(tx *reading) error {
		// WriteTo generates the meta pages of this snapshot, and head stops it after them. All
		// other pages stay as they are in the file while the transaction is open. They are copied
		// here and not by WriteTo, so that ctx is checked in between.
		metas := &firstBytes{size: 2 * int64(s.db.Info().PageSize)}
		if _, err := tx.WriteTo(metas); int64(len(metas.bytes)) != metas.size {
			return err
		}
		if _, err := w.Write(metas.bytes); err != nil {
			return err
		}
		buf := make([]byte, backupChunk)
		for at, size := metas.size, tx.Size(); at < size; {
			if err := ctx.Err(); err != nil {
				return err
			}
			part := buf[:min(int64(len(buf)), size-at)]
			if _, err := s.file.ReadAt(part, at); err != nil {
				return unavailable(err)
			}
			if _, err := w.Write(part); err != nil {
				return err
			}
			at += int64(len(part))
		}
		return nil
	})
}

// head is a writer that keeps the first size bytes and refuses the rest.
type firstBytes struct {
	bytes []byte
	size  int64
}

var errEnough = errors.New("enough")

func (h *firstBytes) Write(p []byte) (int, error) {
	n := min(int64(len(p)), h.size-int64(len(h.bytes)))
	h.bytes = append(h.bytes, p[:n]...)
	if n < int64(len(p)) {
		return int(n), errEnough
	}
	return int(n), nil
}
