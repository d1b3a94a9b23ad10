package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/ops"
	"github.com/denizenhq/denizen/internal/salvage"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
)

// newFile makes a file of mode 0600 that gets its name only once it is whole, on the disk, and
// checked. It replaces nothing. If it fails there is no file.
func newFile(path string, write func(io.Writer) error, check func(path string) error) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("there is something at %s already, and nothing is ever replaced", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".new-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if check != nil {
		if err := check(f.Name()); err != nil {
			return err
		}
	}
	return name(f.Name(), path)
}

// newStore is newFile for what makes a file under a name by itself.
func newStore(path string, write func(made string) error) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("there is something at %s already, and nothing is ever replaced", path)
	}
	within, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".new-*") // with mode 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(within)
	made := filepath.Join(within, "db")
	if err := write(made); err != nil {
		return err
	}
	return name(made, path)
}

// name gives a file its name, unless something has it.
func name(made, path string) error {
	err := os.Link(made, path)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("there is something at %s already, and nothing is ever replaced", path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes names in a directory durable.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be synced there
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// backup is what is printed of a backup.
type backup struct {
	File    string      `json:"file"`
	Seq     denizen.Seq `json:"seq"`
	TakenAt time.Time   `json:"takenAt,omitzero"`
	Bytes   int64       `json:"bytes"`
}

func backupOf(path string, info denizen.BackupInfo) backup {
	return backup{path, info.Seq, info.TakenAt, info.Bytes}
}

func (s *session) verifyBackup(ctx context.Context, path string) error {
	end := s.progress(func() string { return "checking " + path })
	info, err := denizen.VerifyBackup(ctx, path)
	end()
	if err != nil {
		return err
	}
	return s.print(backupOf(path, info), func(line func(string, ...any)) {
		line("%s is whole: %s, taken %s at %d", path, size(info.Bytes), when(info.TakenAt), uint64(info.Seq))
	})
}

// keeper is what keeps a file: the file itself, or the process that has it open.
type keeper interface {
	Backup(ctx context.Context, w io.Writer) (denizen.Seq, error)
	Compact(ctx context.Context) (ops.Compacted, error)
}

// keeper returns the keeper of the file. It needs no root key.
func (s *session) keeper(ctx context.Context) (keeper, error) {
	if s.socket == "" {
		if isFile, err := s.isFile(); err != nil {
			return nil, err
		} else if !isFile {
			return nil, errors.New("this is for a file; a database has tools of its own, such as pg_dump")
		}
	}
	remote, err := s.remote(ctx)
	if err != nil {
		return nil, err
	}
	if remote != nil {
		return remote, nil
	}
	return itself{s}, s.openFile(ctx)
}

// itself is a file that this process has open.
type itself struct{ s *session }

func (f itself) Backup(ctx context.Context, w io.Writer) (denizen.Seq, error) {
	seq, err := f.s.file.Backup(ctx, w)
	return denizen.Seq(seq), err
}

func (f itself) Compact(ctx context.Context) (c ops.Compacted, err error) {
	if c.Before.Bytes, c.Before.Free, err = f.s.file.FileSize(ctx); err != nil {
		return c, err
	}
	if err := f.s.file.Compact(ctx); err != nil {
		return c, err
	}
	c.After.Bytes, c.After.Free, err = f.s.file.FileSize(ctx)
	return c, err
}

var backupCommand = &command{
	name: "backup", args: "FILE|-", short: "makes a backup of a file, also of one in use",
	min: 1, max: 1,
	long: `
Makes a backup, checks it, and gives it its name once it is whole and on the disk. It never replaces
a file. Nobody waits for it. If a process has the file open and serves a socket, the backup comes
through that. Use pg_dump for a database.

A dash writes it to standard output, unchecked: denizen verify -backup checks it later.`,
	flags: func(_ *flag.FlagSet, s *session) func(context.Context, []string) error {
		return func(ctx context.Context, args []string) error {
			path := args[0]
			if path == "-" && s.watched {
				return usageError("a backup does not belong on a terminal")
			}
			source, err := s.keeper(ctx)
			if err != nil {
				return err
			}
			w := &countingWriter{}
			state := "written"
			defer s.progress(func() string { return size(w.n.Load()) + " " + state })()
			write := func(to io.Writer) error {
				w.Writer = to
				_, err := source.Backup(ctx, w)
				return err
			}
			if path == "-" {
				return write(s.stdout)
			}
			var info denizen.BackupInfo
			if err := newFile(path, write, func(made string) (err error) {
				info, err = denizen.VerifyBackup(ctx, made)
				return err
			}); err != nil {
				return err
			}
			return s.print(backupOf(path, info), func(line func(string, ...any)) {
				line("made %s and checked it: %s at %d", path, size(info.Bytes), uint64(info.Seq))
			})
		}
	},
}

var compactCommand = &command{
	name: "compact", short: "makes a file as small as what is in it, also one in use",
	long: `
Gives back the room that deletions left in a file. denizen stat says whether it is worth it. It needs
as much space on the disk as it leaves. Nobody waits for it but writes at the very end, for a moment.
If a process has the file open and serves a socket, that process does it.`,
	flags: func(_ *flag.FlagSet, s *session) func(context.Context, []string) error {
		return func(ctx context.Context, _ []string) error {
			source, err := s.keeper(ctx)
			if err != nil {
				return err
			}
			defer s.progress(func() string { return "compacting" })()
			c, err := source.Compact(ctx)
			if err != nil {
				return err
			}
			return s.print(c, func(line func(string, ...any)) {
				line("it had %s and has %s", size(c.Before.Bytes), size(c.After.Bytes))
			})
		}
	},
}

// restored is what is printed of a restored file.
type restored struct {
	backup
	AccessKeys []string          `json:"accessKeys"` // that work again
	Erased     []denizen.Erasure `json:"erased"`
	Replaced   string            `json:"replaced,omitempty"` // where the file is that was at the name before
}

var restoreCommand = &command{
	name: "restore", args: "BACKUP", short: "makes a file of a backup",
	min: 1, max: 1,
	long: `
Makes the file -db of a backup. All tokens and proofs end, and a new history of the feed begins, so
that its consumers read the present state. Give the receipts of who was erased since the backup was
taken: they are erased again.

If there is a file under the name it refuses. With -replace it moves that one aside, once the new
one is ready, and says where it is. A file that a process has open is never moved.`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		var receipts []string
		f.Func("erase", "`FILE` with receipts of who was erased since; may be given several times", func(path string) error {
			receipts = append(receipts, path)
			return nil
		})
		replace := f.Bool("replace", false, "move the file aside that has the name")
		f.DurationVar(&s.quarantine, "quarantine", 0, "Options.Quarantine of the service, as a `TIME`, for who is erased again")
		return func(ctx context.Context, args []string) error {
			if s.db == "" {
				return usageError("name the file to make by -db")
			}
			if _, err := s.isFile(); err != nil {
				return err
			}
			o := denizen.RestoreOptions{}
			var err error
			if o.Options, err = s.options(); err != nil {
				return err
			}
			for _, path := range receipts {
				read, err := readReceipts(path)
				if err != nil {
					return err
				}
				o.Erase = append(o.Erase, read...)
			}
			there := false
			if _, err := os.Lstat(s.db); err == nil {
				if there = true; !*replace {
					return fmt.Errorf("there is something at %s: give -replace to move it aside", s.db)
				}
				free, err := s.hold(ctx)
				if err == nil {
					err = free()
				}
				if err != nil {
					return err
				}
			}
			defer s.progress(func() string { return "restoring" })()
			path := s.db
			if there {
				path += ".restored" + time.Now().UTC().Format("-20060102T150405Z")
			}
			done, err := denizen.Restore(ctx, args[0], path, o)
			if err != nil {
				return err
			}
			out := restored{backup: backupOf(s.db, done.BackupInfo), AccessKeys: []string{}, Erased: done.Erased}
			for _, k := range done.AccessKeys {
				out.AccessKeys = append(out.AccessKeys, k.Key)
			}
			if there {
				// It is not interrupted any more: the restored file would be left under another name.
				if out.Replaced, err = s.moveAside(context.WithoutCancel(ctx), path); err != nil {
					return fmt.Errorf("the restored file is %s: %w", path, err)
				}
			}
			return s.print(out, func(line func(string, ...any)) {
				line("restored %s as of %s, at %d", s.db, when(done.TakenAt), uint64(done.Seq))
				if out.Replaced != "" {
					line("what was there is %s", out.Replaced)
				}
				line("all tokens ended, and a new history of the feed begins")
				for _, k := range out.AccessKeys {
					line("this access key works again: %s", k)
				}
				for _, e := range done.Erased {
					line("erased again: %s", e.User)
				}
				line("block and delete anew who was blocked and deleted since: nobody can list them")
			})
		}
	},
}

// hold keeps other processes from opening the file until free is called. It returns an error if one
// has it open, or if that cannot be told. What is no file of a directory, or a damaged one, needs
// no holding: nobody can open it.
func (s *session) hold(ctx context.Context) (free func() error, err error) {
	file, err := bolt.Open(ctx, s.db, bolt.Options{LockTimeout: 200 * time.Millisecond, AllowMode: true})
	switch {
	case err == nil:
		return file.Close, nil
	case errors.Is(err, bolt.ErrInUse):
		return nil, newHeldError(s.db, s.unreached)
	case errors.Is(err, store.ErrCorrupt), errors.Is(err, bolt.ErrFormat):
		return func() error { return nil }, nil
	}
	return nil, fmt.Errorf("it cannot be told whether a process has %s open: %w", s.db, err)
}

// moveAside gives a file the name -db, and the owner of what was there, and returns the new name of
// that. Nobody can open it meanwhile, but on Windows, which renames no file that is open.
func (s *session) moveAside(ctx context.Context, made string) (aside string, err error) {
	free, err := s.hold(ctx)
	if err != nil {
		return "", err
	}
	if runtime.GOOS == "windows" {
		err, free = free(), func() error { return nil }
		if err != nil {
			return "", err
		}
	}
	defer func() { err = errors.Join(err, free()) }()
	if err := keepOwner(made, s.db); err != nil {
		return "", err
	}
	aside = s.db + ".before" + time.Now().UTC().Format("-20060102T150405Z")
	if err := name(s.db, aside); err != nil {
		return "", err
	}
	// In one step, so that at each moment one of the two has the name.
	if err := os.Rename(made, s.db); err != nil {
		return "", errors.Join(err, os.Remove(aside))
	}
	return aside, syncDir(filepath.Dir(s.db))
}

// readReceipts reads receipts of erasures: JSON objects one after another, or lists of them. It
// passes over none that is damaged, but names its line: whom that erased would be back.
func readReceipts(path string) (receipts []denizen.Erasure, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	damaged := func(at int64, err error) error {
		rest := bytes.TrimLeft(b[at:], " \t\r\n")
		line := 1 + bytes.Count(b[:len(b)-len(rest)], []byte{'\n'})
		return fmt.Errorf("%s is no file of receipts: line %d: %w (if a crash has torn it, take it "+
			"out, and erase whom it names once the file is restored)", path, line, err)
	}
	for {
		var raw json.RawMessage
		at := d.InputOffset()
		if err := d.Decode(&raw); err == io.EOF {
			return receipts, nil
		} else if err != nil {
			return nil, damaged(at, err)
		}
		var some []denizen.Erasure
		if err := json.Unmarshal(raw, &some); err != nil {
			some = make([]denizen.Erasure, 1)
			if err := json.Unmarshal(raw, &some[0]); err != nil {
				return nil, damaged(at, err)
			}
		}
		for _, r := range some {
			if r.User == "" || r.Directory == "" {
				return nil, damaged(at, errors.New("it names no user or no directory"))
			}
		}
		receipts = append(receipts, some...)
	}
}

// lost is something that was not salvaged.
type lost struct {
	Reason string `json:"reason"`
	Kind   string `json:"kind"`
	ID     string `json:"id,omitempty"`
	Event  uint64 `json:"event,omitempty"`
	Page   uint64 `json:"page,omitempty"`
}

// salvaged is what is printed of a salvaged file, after what was lost.
type salvaged struct {
	File     string `json:"file"`
	Records  int    `json:"records"`
	Events   int    `json:"events"`
	Strays   int    `json:"strays"`
	Lost     int    `json:"lost"`
	Orphans  int    `json:"orphans"`
	Rebuilt  int    `json:"rebuilt"`
	Ended    int    `json:"ended"`
	Doubtful bool   `json:"doubtful"`
	Rewound  bool   `json:"rewound"`
	Unusable bool   `json:"unusable"`
}

var salvageCommand = &command{
	name: "salvage", args: "NEW", short: "copies what can be read of a damaged file into a new one",
	min: 1, max: 1,
	long: `
Copies what can be read of the damaged file -db into a new file, and prints what cannot. The damaged
file is only read. Nothing is restored whose checksum is wrong. If there is a backup, restore that
unless too much happened since. The exit code is 3 if something was lost.

A stray is a record that is whole, but that no readable page leads to. It is probably current, and
may be a record that was deleted. -strays restores strays, though never tokens.`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		strays := f.Bool("strays", false, "restore strays")
		return func(ctx context.Context, args []string) error {
			if isFile, err := s.isFile(); err != nil || !isFile {
				return errors.Join(err, usageError("name the damaged file by -db"))
			}
			if _, err := os.Stat(s.db); err != nil {
				return noFile(err, s.db)
			}
			defer s.progress(func() string { return "salvaging" })()
			var r salvage.Report
			var printing error
			o := salvage.Options{Strays: *strays, Lost: func(l salvage.Lost) {
				v := lost{l.Reason, l.Kind, l.ID, uint64(l.Event), l.Page}
				printing = errors.Join(printing, s.print(v, func(line func(string, ...any)) {
					where := v.ID
					if v.Event != 0 {
						where = fmt.Sprint(v.Event)
					}
					line("lost: %s %s (%s, page %d)", v.Kind, where, v.Reason, v.Page)
				}))
			}}
			err := newStore(args[0], func(made string) (err error) {
				r, err = salvage.File(ctx, s.db, made, o)
				return err
			})
			if errors.Is(err, bolt.ErrInUse) {
				return newHeldError(s.db, s.unreached)
			}
			if err = errors.Join(err, printing); err != nil {
				return err
			}
			v := salvaged{
				args[0], r.Records, r.Events, r.Strays, r.Lost, r.Orphans, r.Rebuilt, r.Ended, r.Doubtful, r.Rewound, r.Unusable,
			}
			if err := s.print(v, func(line func(string, ...any)) {
				line("made %s: %d records (%d strays, %d made anew) and %d events; lost %d, left out %d orphans and %d tokens",
					v.File, v.Records, v.Strays, v.Rebuilt, v.Events, v.Lost, v.Orphans, v.Ended)
				if v.Doubtful {
					line("the list of free pages is damaged, too: strays may be old or deleted")
				}
				if v.Rewound {
					line("a meta page is damaged: it may be the state before the last commit")
				}
				if v.Unusable {
					line("the directory's own records are lost: restore a backup")
				}
			}); err != nil {
				return err
			}
			if r.Lost+r.Orphans > 0 || r.Unusable {
				return errDamage
			}
			return nil
		}
	},
}
