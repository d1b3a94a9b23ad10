package bolt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/stretchr/testify/require"
)

// lived returns a file that was written to for a while: with short and long values, with old states
// of them in its free pages, and with a feed that was trimmed.
func lived(t *testing.T) []byte {
	t.Helper()
	name := path(t)
	s := open(t, name)
	rng := rand.New(rand.NewPCG(3, 4))
	var head store.Seq
	for i := range 250 {
		b := store.Batch{Emit: fmt.Appendf(nil, `{"no":%d}`, i)}
		for j := range 3 {
			key := store.Key(fmt.Sprintf("k%d/%03d", j, rng.IntN(300)))
			size := 20 + rng.IntN(300)
			if rng.IntN(20) == 0 {
				size = 3_000 + rng.IntN(30_000)
			}
			value := fmt.Appendf(nil, `{"of":%q,"no":%d,"pad":"%s"}`, key, i, strings.Repeat("x", size))
			b.Put = append(b.Put, store.Record{Key: key, Value: value})
		}
		if rng.IntN(2) == 0 {
			b.Drop = []store.Key{store.Key(fmt.Sprintf("k%d/%03d", i%3, rng.IntN(300)))}
		}
		if rng.IntN(10) == 0 {
			b.Emit = nil
		}
		head = commit(t, s, b)
	}
	commit(t, s, store.Batch{Trim: head / 3})
	require.NoError(t, s.Close())
	file, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Greater(t, len(bolt.EntriesOf(file)), 500)
	return file[:len(inUse(t, name))]
}

// kept is what a file holds, by key or place.
func kept(t *testing.T, name string) (records map[store.Key]store.Record, events map[store.Seq]store.Change, feed store.Feed) {
	t.Helper()
	s := open(t, name)
	records, events = map[store.Key]store.Record{}, map[store.Seq]store.Change{}
	for r := (store.Range{Limit: 1000}); ; {
		page, err := s.List(t.Context(), r)
		require.NoError(t, err)
		for _, r := range page {
			require.False(t, r.Damaged)
			records[r.Key] = r
		}
		if len(page) < r.Limit {
			break
		}
		r.After = page[len(page)-1].Key
	}
	feed, err := s.Changes(t.Context(), store.End, 1)
	require.NoError(t, err)
	all, err := s.Changes(t.Context(), feed.First-1, 1000)
	require.NoError(t, err)
	for _, ch := range all.Changes {
		events[ch.Seq] = ch
	}
	require.NoError(t, s.Close())
	return records, events, feed
}

// touched is a part of a file that was damaged.
type touched [2]int64

func (d touched) meets(from, to int64) bool { return d[0] < to && from < d[1] }

// spoil damages a part of a file after its meta pages.
func spoil(file []byte, rng *rand.Rand) touched {
	page := int64(os.Getpagesize())
	from := 2*page + rng.Int64N(int64(len(file))-2*page)
	to := from + 1
	switch rng.IntN(6) {
	case 0, 1: // one bit
		file[from] ^= 1 << rng.IntN(8)
		return touched{from, to}
	case 2: // in a header of a page
		from = from / page * page
		from, to = from+rng.Int64N(16), 0
		to = from + 1
	case 3: // in an element
		from = from/page*page + 16 + rng.Int64N(256)
		to = from + 1 + rng.Int64N(8)
	case 4:
		to = from + 1 + rng.Int64N(600)
	case 5: // a page
		from = from / page * page
		to = from + page
		clear(file[from:to])
		return touched{from, to}
	}
	to = min(to, int64(len(file)))
	for i := from; i < to; i++ {
		file[i] = byte(rng.Uint32())
	}
	return touched{from, to}
}

func TestSalvageBringsBackAllThatWasNotTouchedAndNamesTheRest(t *testing.T) {
	whole := lived(t)
	entries := bolt.EntriesOf(whole)
	dir := long.Dir(t)
	ever := map[string]bool{} // each record and event that the file ever held
	for _, e := range entries {
		ever[string(e.Key)+string(e.Data)] = true
	}
	for n := range long.Of(60, 250) {
		rng := rand.New(rand.NewPCG(uint64(n), 5))
		file := bytes.Clone(whole)
		var damage []touched
		for range 1 + n%3 {
			damage = append(damage, spoil(file, rng))
		}
		from, to := filepath.Join(dir, "damaged.db"), filepath.Join(dir, "salvaged.db")
		require.NoError(t, os.WriteFile(from, file, 0o600))
		for _, strays := range []bool{true, false} {
			name := fmt.Sprintf("file %d, %v, strays %t", n, damage, strays)
			o, keys, seqs, pages := bolt.SalvageOptions{}, map[store.Key]bool{}, map[store.Seq]bool{}, map[uint64]bool{}
			lost := 0
			o.Lost = func(l bolt.Lost) {
				lost++
				switch {
				case l.Reason == bolt.LostPage:
					pages[l.Page] = true
				case l.Event != 0:
					seqs[l.Event] = true
				default:
					keys[l.Key] = true
				}
				if l.Reason == bolt.LostDamaged {
					pages[l.Page] = true // its key may be damaged, too
				}
			}
			if strays {
				o.Strays = func(store.Key) bool { return true }
			}
			report, err := bolt.Salvage(t.Context(), from, to, o)
			require.NoError(t, err, name)
			require.Equal(t, lost, report.Lost)
			records, events, feed := kept(t, to)
			require.NoError(t, os.Remove(to))
			require.Len(t, records, report.Records, name)
			for _, e := range entries {
				hit := slices.ContainsFunc(damage, func(d touched) bool {
					return d.meets(e.Element[0], e.Element[1]) || d.meets(e.Entry[0], e.Entry[1])
				})
				is, why := false, pages[e.Page]
				if e.Event {
					seq := store.Seq(binary.BigEndian.Uint64(e.Key))
					ch, there := events[seq]
					is = there && !ch.Damaged && bytes.Equal(ch.Event, e.Data[12:])
					why = why || seqs[seq]
					if !is && seq >= feed.First {
						_, later := events[lastOf(events)]
						require.True(t, later && (ch.Damaged || anyDamagedAfter(events, seq)), "%s: the feed does not show that %d is lost", name, seq)
					}
				} else {
					r, there := records[store.Key(e.Key)]
					is = there && bytes.Equal(r.Value, e.Data[12:])
					why = why || keys[store.Key(e.Key)]
				}
				if !hit && strays {
					require.True(t, is, "%s: %q of page %d was not touched", name, e.Key, e.Page)
				}
				require.True(t, is || why, "%s: %q of page %d is gone without a word", name, e.Key, e.Page)
			}
			if !report.Doubtful || !strays {
				for key, r := range records {
					require.True(t, ever[string(key)+string(bolt.Seal([]byte(key), r.Version, r.Value))], "%s: %q was not there", name, key)
				}
			}
		}
	}
}

func lastOf(events map[store.Seq]store.Change) (last store.Seq) {
	for seq := range events {
		last = max(last, seq)
	}
	return last
}

func anyDamagedAfter(events map[store.Seq]store.Change, seq store.Seq) bool {
	for at, ch := range events {
		if ch.Damaged && at >= seq {
			return true
		}
	}
	return false
}

func TestSalvageOfAWholeFileIsTheSame(t *testing.T) {
	from := writeFile(t, lived(t))
	records, events, feed := kept(t, from)
	to := filepath.Join(filepath.Dir(from), "salvaged.db")
	report, err := bolt.Salvage(t.Context(), from, to, bolt.SalvageOptions{})
	require.NoError(t, err)
	require.Equal(t, bolt.Salvaged{Records: len(records), Events: len(events)}, report)
	got, gotEvents, gotFeed := kept(t, to)
	require.Equal(t, records, got)
	require.Equal(t, events, gotEvents)
	require.Equal(t, feed, gotFeed)
	s := open(t, to)
	require.NoError(t, s.Verify(t.Context()))
	info, err := os.Stat(to)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	commit(t, s, put("another", `{}`))
}

func TestSalvageDoesNotBelieveHowLongTheListOfFreePagesSaysItIs(t *testing.T) {
	whole := lived(t)
	file := bytes.Clone(whole)
	file[bolt.FreelistOf(file)*os.Getpagesize()+12] = 60 // of its overflow pages
	from, to := writeFile(t, file), filepath.Join(t.TempDir(), "salvaged.db")
	report, err := bolt.Salvage(t.Context(), from, to, bolt.SalvageOptions{})
	require.NoError(t, err)
	require.Zero(t, report.Lost)
	records, events, _ := kept(t, writeFile(t, whole))
	require.Equal(t, bolt.Salvaged{Records: len(records), Events: len(events)}, report)
}

func TestSalvageGoesByTheOtherMetaPageAndSaysSo(t *testing.T) {
	whole := lived(t)
	page := os.Getpagesize()
	for newer := range 2 {
		file := bytes.Clone(whole)
		clear(file[newer*page : newer*page+100])
		from := writeFile(t, file)
		to := filepath.Join(filepath.Dir(from), "salvaged.db")
		report, err := bolt.Salvage(t.Context(), from, to, bolt.SalvageOptions{})
		require.NoError(t, err)
		require.True(t, report.Rewound)
		require.Zero(t, report.Lost)
		require.Greater(t, report.Records, 300)
	}
}

func TestSalvageWithoutMetaPagesFindsStraysAlone(t *testing.T) {
	whole := lived(t)
	page := os.Getpagesize()
	for i := range 2 {
		whole[i*page+16+20] ^= 1
	}
	from := writeFile(t, whole)
	to := filepath.Join(filepath.Dir(from), "salvaged.db")
	var keys []store.Key
	report, err := bolt.Salvage(t.Context(), from, to, bolt.SalvageOptions{
		Strays: func(key store.Key) bool { return key < "k2" },
		Lost:   func(l bolt.Lost) { keys = append(keys, l.Key) },
	})
	require.NoError(t, err)
	require.True(t, report.Doubtful)
	require.Equal(t, report.Records, report.Strays)
	require.Greater(t, report.Records, 100)
	require.True(t, slices.ContainsFunc(keys, func(key store.Key) bool { return key >= "k2" }))
	records, _, _ := kept(t, to)
	for key := range records {
		require.Less(t, key, store.Key("k2"), "it was not wanted")
	}
}

// A user chooses values, and could put the image of a page into one.
func TestSalvageDoesNotTakeTheInsideOfAValueForAPage(t *testing.T) {
	page := os.Getpagesize()
	forged := bolt.Seal([]byte("forged"), 1, []byte(`{"by":"a user"}`))
	name := path(t)
	s := open(t, name)
	for i := range 5 {
		commit(t, s, put(store.Key(fmt.Sprint("k", i)), fmt.Sprintf(`{"pad":"%03000d"}`, i)))
	}
	commit(t, s, put("long", `{"pad":"`+strings.Repeat("x", 4*page)+`"}`))
	require.NoError(t, s.Close())
	whole, err := os.ReadFile(name)
	require.NoError(t, err)
	all := bolt.EntriesOf(whole)
	long := all[slices.IndexFunc(all, func(e bolt.Placed) bool { return string(e.Key) == "long" })]
	for id := range uint64(64) {
		image := make([]byte, page)
		binary.NativeEndian.PutUint64(image, id)
		binary.NativeEndian.PutUint16(image[8:], 2)
		binary.NativeEndian.PutUint16(image[10:], 1)
		binary.NativeEndian.PutUint32(image[20:], 16)
		binary.NativeEndian.PutUint32(image[24:], 6)
		binary.NativeEndian.PutUint32(image[28:], uint32(len(forged)))
		copy(image[32:], append([]byte("forged"), forged...))
		// A value is JSON, which the store checks: only the file has the image in it.
		file := bytes.Clone(whole)
		copy(file[(int(long.Entry[0])/page+1)*page:], image)
		data := file[long.Entry[0]+4 : long.Entry[1]]
		copy(data, bolt.Seal([]byte("long"), store.Seq(binary.BigEndian.Uint64(data[4:])), data[12:]))

		from := writeFile(t, file)
		to := filepath.Join(filepath.Dir(from), "salvaged.db")
		_, err := bolt.Salvage(t.Context(), from, to, bolt.SalvageOptions{Strays: func(store.Key) bool { return true }})
		require.NoError(t, err)
		records, _, _ := kept(t, to)
		require.NotContains(t, records, store.Key("forged"), "page %d", id)
		require.Contains(t, records, store.Key("long"))
	}
}

func TestSalvageRefusesWhatItCannotRead(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, content, 0o600))
		return name
	}
	text := file("text", bytes.Repeat([]byte("hello\n"), 2000))
	whole := file("whole", lived(t))
	for _, r := range []struct {
		name, from, to string
		kind           error
	}{
		{"nothing", filepath.Join(dir, "none"), "new", store.ErrUnavailable},
		{"a directory", dir, "new", bolt.ErrFormat},
		{"an empty file", file("empty", nil), "new", bolt.ErrFormat},
		{"a text", text, "new", bolt.ErrFormat},
		{"a name that is taken", whole, "text", store.ErrUnavailable},
	} {
		_, err := bolt.Salvage(t.Context(), r.from, filepath.Join(dir, r.to), bolt.SalvageOptions{})
		require.True(t, errors.Is(err, r.kind), "%s: %v", r.name, err)
	}
	s := open(t, whole)
	_, err := bolt.Salvage(t.Context(), whole, filepath.Join(dir, "new"), bolt.SalvageOptions{})
	require.ErrorIs(t, err, bolt.ErrInUse)
	require.NoError(t, s.Close())
	left, err := filepath.Glob(filepath.Join(dir, "*new*"))
	require.NoError(t, err)
	require.Empty(t, left)
}
