package bolt

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/denizenhq/denizen/store"
)

// A backup is a line of JSON, the file as it was at one commit, and a line with the SHA-256 of all
// before it. So it says what it is, and whether it is whole. It is no file that [Open] accepts,
// because what it revives has to be dealt with first: see [Restore].

// BackupInfo says what is in a backup.
type BackupInfo struct {
	Seq     store.Seq // of the latest commit in it
	TakenAt time.Time
	Bytes   int64 // of the file that it holds
}

// backupHeader is the first line of a backup.
type backupHeader struct {
	Format   string    `json:"format"`
	Sequence store.Seq `json:"sequence"`
	TakenAt  time.Time `json:"takenAt"`
	Bytes    int64     `json:"bytes"`
}

const (
	backupFormat  = "denizen backup 1"
	maxHeader     = 4 << 10 // bytes
	trailerPrefix = "\nsha256 "
	trailerSize   = len(trailerPrefix) + 2*sha256.Size + 1
	backupChunk   = 1 << 20 // bytes that are copied between two checks of the context
)

func trailer(sum []byte) string { return trailerPrefix + hex.EncodeToString(sum) + "\n" }

// Backup implements [store.Backer]. It writes a backup of the file, as of the latest commit, for
// [Restore] and [VerifyBackup]. Damaged records are damaged in it as well.
//
// Reads and writes go on during a backup, however slow w is. The file grows with a slow w, because
// commits cannot reuse the pages that are still to be copied. On a system that does not let Open
// map more memory than the file needs, a commit that has to map a longer file waits for the backup.
//
// Backup returns the error of ctx as soon as it notices that ctx has ended: it checks between
// writes of at most 1 MiB, and cannot interrupt one. What was written by then is no backup, and
// VerifyBackup says so.
func (s *Store) Backup(ctx context.Context, w io.Writer) (seq store.Seq, err error) {
	h := sha256.New()
	w = io.MultiWriter(w, h)
	err = s.view(ctx, func(tx *reading) error {
		if seq, _, err = feedBounds(tx.Tx); err != nil {
			return err
		}
		line, err := json.Marshal(backupHeader{backupFormat, seq, time.Now().UTC(), tx.Size()})
		if err != nil {
			return err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
		return copyPages(ctx, tx, w)
	})
	if err == nil {
		_, err = io.WriteString(w, trailer(h.Sum(nil)))
	}
	return seq, err
}

// copyPages writes the file as of a snapshot.
func copyPages(ctx context.Context, tx *reading, w io.Writer) error {
	// All pages but the metas stay as they are in the file while the transaction is open. They are
	// copied here and not by tx.WriteTo, so that ctx is checked in between.
	metas, err := tx.disk.metas(tx.Tx)
	if err != nil {
		return err
	}
	if _, err := w.Write(metas); err != nil {
		return err
	}
	size := int64(len(metas))
	rest := io.NewSectionReader(tx.disk.file, size, tx.Size()-size)
	switch n, err := copyChecked(ctx, w, rest); {
	case err != nil:
		return err
	case n != rest.Size():
		return fmt.Errorf("%w: the file is cut short", store.ErrCorrupt)
	}
	return nil
}

// copyChecked copies all of r to w, and looks at ctx once a MiB.
func copyChecked(ctx context.Context, w io.Writer, r io.Reader) (n int64, err error) {
	buf := make([]byte, backupChunk)
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		read, err := io.ReadFull(r, buf)
		if _, failed := w.Write(buf[:read]); failed != nil {
			return n, failed
		}
		n += int64(read)
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return n, nil
		case err != nil:
			return n, unavailable(err)
		}
	}
}

// backup is an open backup.
type backup struct {
	*os.File
	BackupInfo
	at int64 // where the file that it holds begins
}

// openBackup opens a backup and checks its first line and its length.
func openBackup(path string) (_ *backup, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unavailable(err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, unavailable(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is not a file", ErrFormat)
	}
	line, err := bufio.NewReaderSize(io.LimitReader(f, maxHeader), maxHeader).ReadSlice('\n')
	if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
		return nil, unavailable(err)
	}
	var h backupHeader
	if err != nil || json.Unmarshal(line, &h) != nil || h.Format != backupFormat {
		return nil, fmt.Errorf("%w: it is no backup", ErrFormat)
	}
	b := &backup{f, BackupInfo{h.Sequence, h.TakenAt, h.Bytes}, int64(len(line))}
	if info.Size()-b.at-int64(trailerSize) != h.Bytes {
		return nil, fmt.Errorf("%w: the backup is cut short, or longer than it says",
			store.ErrCorrupt)
	}
	return b, nil
}

// pages returns the file that the backup holds.
func (b *backup) pages() *io.SectionReader {
	return io.NewSectionReader(b, b.at, b.Bytes)
}

// copyTo copies the file that the backup holds, and checks the checksum.
func (b *backup) copyTo(ctx context.Context, w io.Writer) error {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(b, 0, b.at)); err != nil {
		return unavailable(err)
	}
	if _, err := copyChecked(ctx, io.MultiWriter(w, h), b.pages()); err != nil {
		return err
	}
	last := make([]byte, trailerSize)
	if _, err := b.ReadAt(last, b.at+b.Bytes); err != nil {
		return unavailable(err)
	}
	if string(last) != trailer(h.Sum(nil)) {
		return fmt.Errorf("%w: the checksum of the backup is wrong", store.ErrCorrupt)
	}
	return nil
}

// VerifyBackup reads a backup and checks it: that it is whole, its checksum, and the file in it as
// [Store.Verify] does. It changes nothing.
//
// What is no backup is [ErrFormat]. A damaged one is [store.ErrCorrupt], and so is one that was
// taken of a damaged file. The other errors are [store.ErrUnavailable] and those of ctx.
func VerifyBackup(ctx context.Context, path string) (BackupInfo, error) {
	b, err := openBackup(path)
	if err != nil {
		return BackupInfo{}, err
	}
	defer b.Close()
	if err := b.copyTo(ctx, io.Discard); err != nil {
		return BackupInfo{}, err
	}
	if err := inspect(b.pages(), b.Bytes); err != nil {
		return BackupInfo{}, err
	}
	if err := verifyPages(ctx, b.pages(), checkSum); err != nil {
		return BackupInfo{}, err
	}
	return b.BackupInfo, nil
}

// checkSum checks the checksum of an entry of any bucket.
func checkSum(_, key, value []byte) error {
	_, _, err := unseal(key, value)
	return err
}

// Restore makes a file at path from a backup, with mode 0600. Before the file gets its name it
// calls prepare with the store in it. If that fails, or the process dies, there is no file at path.
// A process that dies leaves a file with .new- in its name in the same directory, which may be
// removed.
//
// A damaged backup is [store.ErrCorrupt], and what is none is [ErrFormat]. Damaged records are no
// error. If there is something at path, the error is [fs.ErrExist] and that is left as it is.
func Restore(
	ctx context.Context, from, path string, prepare func(*Store) error,
) (_ BackupInfo, err error) {
	b, err := openBackup(from)
	if err != nil {
		return BackupInfo{}, err
	}
	defer b.Close()
	if _, err := os.Lstat(path); err == nil {
		return BackupInfo{}, fs.ErrExist
	}
	dir, base := filepath.Split(path)
	dir = filepath.Clean(dir)
	f, err := os.CreateTemp(dir, "."+base+".new-*") // with mode 0600
	if err != nil {
		return BackupInfo{}, unavailable(err)
	}
	defer os.Remove(f.Name())
	if err := b.copyTo(ctx, f); err != nil {
		return BackupInfo{}, errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return BackupInfo{}, unavailable(err)
	}
	s, err := Open(ctx, f.Name(), Options{})
	if err != nil {
		return BackupInfo{}, err
	}
	if err := errors.Join(prepare(s), s.Close()); err != nil {
		return BackupInfo{}, err
	}
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return BackupInfo{}, fs.ErrExist
	} else if err != nil {
		return BackupInfo{}, unavailable(err)
	}
	if err := syncDir(dir); err != nil {
		return BackupInfo{}, unavailable(err)
	}
	return b.BackupInfo, nil
}

// isBackup reports whether a file begins as a backup does.
func isBackup(f io.ReaderAt) bool {
	begin := []byte(`{"format":"` + backupFormat + `"`)
	got := make([]byte, len(begin))
	_, err := f.ReadAt(got, 0)
	return err == nil && bytes.Equal(got, begin)
}
