package bolt

import (
	"context"
	"errors"
	"io"
)

// backupChunk is how much a backup reads before it looks at its context.
const backupChunk = 1 << 20

// Backup writes a copy of the file to w, as it stands after the latest commit, while reads and
// writes go on, however slow w is; only where the system lets Open map no more than the file a
// commit that must map a longer one waits for w. What is committed meanwhile uses no page of the
// copy again, so that the file grows with a slow w. Backup ends with its context between two
// writes of at most 1 MiB; it cannot interrupt one. The copy is a file that Open takes. A record
// that is damaged is damaged in the copy.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	return s.view(ctx, func(tx *reading) error {
		metas := &head{size: 2 * int64(s.db.Info().PageSize)}
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

// head takes the beginning of what is written to it, and then refuses.
type head struct {
	bytes []byte
	size  int64
}

var errEnough = errors.New("enough")

func (h *head) Write(p []byte) (int, error) {
	n := min(int64(len(p)), h.size-int64(len(h.bytes)))
	h.bytes = append(h.bytes, p[:n]...)
	if n < int64(len(p)) {
		return int(n), errEnough
	}
	return int(n), nil
}
