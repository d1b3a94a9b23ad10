package denizen

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
)

// Backup writes a backup of the directory's file to w, as of the latest commit, and returns the
// place of that commit. [Restore] makes a directory of it, and [VerifyBackup] checks it. Write it to
// a file of mode 0600: it holds what the directory holds, and what is sealed there is sealed in it.
//
// Reads and writes go on meanwhile, however slow w is; a slow one lets the file grow. Heartbeats
// and last uses that are not stored yet are not in it. After an error what was written is no
// backup, and VerifyBackup says so.
//
// Only a directory in a file has backups: any other is [ErrInvalid] with Field "store". A database
// has tools of its own. An error of w is [ErrUnavailable]. Only .system may.
func (d *Directory) Backup(ctx context.Context, by Principal, w io.Writer) (at Seq, err error) {
	defer d.trace(&ctx, "Backup", &by).end(&err)
	c, err := d.enter(ctx, opOperate, by, noTarget)
	if err != nil {
		return 0, err
	}
	if _, err := d.read(ctx, &c); err != nil {
		return 0, err
	}
	backer, ok := d.store.(store.Backer)
	if !ok {
		return 0, invalid("store", "is not a file")
	}
	seq, err := backer.Backup(ctx, w)
	return Seq(seq), err
}

// BackupInfo says what is in a backup.
type BackupInfo struct {
	Seq     Seq // the place of the latest commit in it
	TakenAt time.Time
	Bytes   int64 // of the file that it holds
}

func backupInfo(info bolt.BackupInfo) BackupInfo {
	return BackupInfo{Seq(info.Seq), info.TakenAt, info.Bytes}
}

// VerifyBackup reads a backup and checks that it is whole: its checksum, each page and each record
// of the file in it. It needs no root key, and changes nothing.
//
// A damaged backup is [ErrCorrupt], and so is one that was taken of a damaged file. What is no
// backup is [ErrUnavailable]. Both have Field "backup".
func VerifyBackup(ctx context.Context, path string) (info BackupInfo, err error) {
	defer wrapOp("VerifyBackup", &err)
	found, err := bolt.VerifyBackup(ctx, path)
	if err != nil {
		return BackupInfo{}, backupError(err)
	}
	return backupInfo(found), nil
}

func backupError(err error) error {
	e := &Error{Kind: ErrUnavailable, cause: err}
	switch {
	case errors.Is(err, bolt.ErrFormat):
		e.Field, e.Reason = "backup", "is no backup"
	case errors.Is(err, store.ErrCorrupt):
		e.Kind, e.Field, e.Reason = ErrCorrupt, "backup", "is damaged"
	case errors.Is(err, fs.ErrExist):
		e.Kind, e.Field, e.Reason = ErrTaken, "path", "there is a file already"
	}
	return e
}

// RestoreOptions are the settings of [Restore].
type RestoreOptions struct {
	// Options are those that the directory will be opened with. RootKeys must have the key that it
	// was under when the backup was taken.
	Options Options
	// Erase is the receipts of who was erased since the backup was taken. Those who are in the
	// backup are erased again, and so are those who were merged into them since and whose ids a
	// receipt names as aliases. A receipt of another directory is ErrInvalid with Field "erase".
	Erase []Erasure
}

// Restored says what [Restore] did, and what is left to do.
type Restored struct {
	BackupInfo
	// AccessKeys is those that work again. Delete those that were deleted since.
	AccessKeys []AccessKey
	// Erased is new receipts of who was erased again, in the order of RestoreOptions.Erase. Each is
	// followed by those of its aliases: in the backup they may be users still. Who was not in the
	// backup has none.
	Erased []Erasure
}

// Restore makes the file of a directory at path from a backup. The file has mode 0600 and gets its
// name once all is done, so a Restore that fails or is killed can be run again. A file that is at
// path already is [ErrTaken] with Field "path".
//
// What the backup revives and was ended since must not count:
//
//   - All tokens and all proofs that were started end.
//   - Whoever was erased since is erased again, by RestoreOptions.Erase.
//   - A new history of the feed begins. Each [Cursor] from before is [ErrMissed], and consumers read
//     the present state.
//   - Access keys work again. Restored lists them.
//   - Blocks, deletions and changes since are lost. Nobody can list those.
//
// The feed has an [EventDirectoryRestored]. A damaged backup is [ErrCorrupt] and what is no backup
// [ErrUnavailable], with Field "backup". Damaged records are no error, but see package verify.
// The other errors are those of [Open].
func Restore(
	ctx context.Context, backup, path string, o RestoreOptions,
) (restored Restored, err error) {
	defer wrapOp("Restore", &err)
	info, err := bolt.Restore(ctx, backup, path, func(s *bolt.Store) error {
		d, err := newDirectory(ctx, s, o.Options)
		if err != nil {
			return toError("Restore", err)
		}
		if err = d.restore(ctx, o.Erase, &restored); err != nil {
			err = toError("Restore", err)
		}
		return errors.Join(err, d.Close())
	})
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			return Restored{}, e
		}
		return Restored{}, backupError(err)
	}
	restored.BackupInfo = backupInfo(info)
	return restored, nil
}

// endedByRestore is the prefixes of all that lets somebody in and may have been ended since a
// backup was taken. The key that a prefix is itself is kept: it is of no user.
var endedByRestore = [...]store.Key{
	record.TokenTexts, record.AllTokens, record.AllLastUses,
	record.Proofs, record.UsersProofs, record.AllStarts,
}

// restore makes the present state of a store count as that of a new history.
func (d *Directory) restore(ctx context.Context, receipts []Erasure, done *Restored) error {
	for _, r := range receipts {
		if r.Directory != d.id {
			return invalid("erase", "must be receipts of this directory")
		}
	}
	for _, under := range endedByRestore {
		if err := d.dropUnder(ctx, under); err != nil {
			return err
		}
	}
	c, err := d.enter(ctx, opOperate, System(), noTarget)
	if err != nil {
		return err
	}
	if _, err = d.write(ctx, &c, func(p *plan) error {
		entries, err := p.read(record.DirectoryKey)
		if err != nil {
			return err
		}
		own, ok := entries[0].Value().(*record.Directory)
		if !ok {
			return record.ErrCorrupt
		}
		next := *own
		next.Epoch = newEpoch()
		p.Put(record.DirectoryKey, &next)
		p.emit(EventDirectoryRestored, nil)
		return nil
	}); err != nil {
		return err
	}
	for _, r := range receipts {
		for _, had := range append([]Alias{{r.User, r.InternalID}}, r.Aliases...) {
			again, err := d.eraseAgain(ctx, had)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			done.Erased = append(done.Erased, again)
		}
	}
	done.AccessKeys, err = d.AccessKeys(ctx, System())
	return err
}

// eraseAgain erases the person who had an id, and nobody else who has it.
func (d *Directory) eraseAgain(ctx context.Context, had Alias) (Erasure, error) {
	u, err := d.User(ctx, System(), had.ID)
	switch {
	case errors.Is(err, ErrCorrupt): // who it is cannot be told any more
	case err != nil:
		return Erasure{}, err
	case had.InternalID != "" && u.InternalID != had.InternalID:
		return Erasure{}, newError(ErrNotFound, "user", "")
	}
	return d.EraseUser(ctx, System(), had.ID)
}

// dropUnder drops all records whose keys begin with a prefix and are longer. Nobody else may be
// writing under it.
func (d *Directory) dropUnder(ctx context.Context, under store.Key) error {
	for {
		r := store.Range{Under: under, After: under, Limit: maxSweep, KeysOnly: true}
		page, err := d.store.List(ctx, r)
		if err != nil || len(page) == 0 {
			return err
		}
		keys := make([]store.Key, len(page))
		for i, r := range page {
			keys[i] = r.Key
		}
		if err := d.dropAll(ctx, keys); err != nil {
			return err
		}
	}
}
