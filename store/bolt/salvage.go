package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/denizenhq/denizen/store"
	"go.etcd.io/bbolt"
)

// SalvageOptions are the settings of [Salvage]. The zero value restores nothing that is doubtful
// and tells nothing.
type SalvageOptions struct {
	// Strays reports whether a stray record is restored: see [LostStray]. The default is none.
	Strays func(key store.Key) bool
	// Lost, if set, is called for everything that was not restored. The key belongs to the caller.
	Lost func(Lost)
}

// Salvaged is what [Salvage] restored.
type Salvaged struct {
	Records int
	Events  int
	Strays  int // how many of Records were strays
	Lost    int // how often SalvageOptions.Lost was called, or would have been
	// Doubtful reports that the list of free pages was damaged too. Then old states of records,
	// and deleted records, are among the strays.
	Doubtful bool
	// Rewound reports that a meta page is damaged. If it was the newer one, what the file holds
	// is its state before the last commit.
	Rewound bool
}

// Lost is something that [Salvage] did not restore.
type Lost struct {
	Reason LostReason
	Page   uint64    // the page of the file that it lies in
	Key    store.Key // of a record, as far as it could be read; empty for a page or an event
	Event  store.Seq // of an event; 0 for a page or a record
}

// LostReason says why something was not restored.
type LostReason string

const (
	// LostDamaged: a record or an event whose checksum is wrong. Its key may be damaged, too.
	LostDamaged LostReason = "damaged"
	// LostPage: a page that makes no sense, with an unknown number of records and events in it or
	// below it. What it led to is among the strays.
	LostPage LostReason = "page"
	// LostStray: a record or an event on a page that is in use, but that no readable page leads
	// to. It is whole, and probably current.
	LostStray LostReason = "stray"
)

// Salvage copies all records and events that can be read from a damaged file into a new file. Both
// are paths; nothing may be at the second one. The damaged file is only read, and nobody may have it
// open.
//
// No part of the file is trusted but what has a checksum: what is restored is as it was written.
// Where a page leads nowhere, the pages that it led to are still in use and not in the tree any
// more. What lies in them is a stray, and is restored only if SalvageOptions.Strays says so, and
// only if the tree has nothing under its key, not even something damaged.
//
// An event that is lost leaves a damaged event in the feed, so that whoever follows it notices. If
// some may be lost without a trace, that is the last place in the feed that has no event.
//
// Salvage does not know what the records mean, nor which of them belong together.
//
// The new file appears under its name once it is complete, as with [Open], with mode 0600. Errors
// are those of Open. [ErrFormat] also means that no page of a store was found.
func Salvage(ctx context.Context, from, to string, o SalvageOptions) (report Salvaged, err error) {
	report, err = salvageFile(ctx, from, to, o)
	if err != nil {
		return report, fmt.Errorf("salvage %s: %w", from, err)
	}
	return report, nil
}

func salvageFile(
	ctx context.Context, from, to string, o SalvageOptions,
) (report Salvaged, err error) {
	f, err := openLocked(ctx, from, os.O_RDONLY, defaultTimeout)
	if err != nil {
		return report, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return report, unavailable(err)
	}
	if !info.Mode().IsRegular() {
		return report, fmt.Errorf("%w: it is not a file", ErrFormat)
	}
	out, err := newRescue(to)
	if err != nil {
		return report, unavailable(err)
	}
	defer out.discard()
	s := &salvage{ctx: ctx, file: f, size: info.Size(), o: o, out: out, damaged: map[string]bool{}}
	if err := s.run(); err != nil {
		return s.report, err
	}
	if err := out.finish(s.head, s.first, s.gaps); err != nil {
		return s.report, translate(err)
	}
	if err := out.publish(to); errors.Is(err, fs.ErrExist) {
		return s.report, fmt.Errorf("%w: %w", store.ErrUnavailable, fs.ErrExist)
	} else if err != nil {
		return s.report, unavailable(err)
	}
	return s.report, nil
}

// salvage is a damaged file that is being read. It goes by bbolt's layout of pages as far as that
// makes sense, and restores only entries whose checksum is right.
//
// Values are chosen by users, and a checksum is no secret: one who stores an image of a page inside
// a value must not have it taken for a page. So the pages that a long value goes on in are marked as
// read, and where a page does not say how many elements it has, something is only taken for one if
// it has zero bytes where no value can: values are JSON, which has none (RFC 8259, section 7).
type salvage struct {
	ctx    context.Context
	file   io.ReaderAt
	size   int64
	o      SalvageOptions
	out    *rescue
	report Salvaged
	err    error // of writing, the first

	page    int64    // bytes of a page
	pages   uint64   // in the file
	root    uint64   // the page of the buckets; 0 if that is not known
	free    []bool   // by page; nil if the list of free pages is damaged
	seen    []bool   // by page: it was read, or is the inside of a value
	linked  []bool   // by page: it is free, and another page leads to it
	pending []uint64 // pages yet to be read, a stack
	doubted []uint64 // pages that do not say that they are themselves, to be read after all others

	head    store.Seq       // the greatest version, or what the file says if that is greater
	first   store.Seq       // of the feed, if the file says so
	gaps    bool            // events may be lost without a trace
	damaged map[string]bool // keys of damaged entries in the tree
}

// run reads everything.
func (s *salvage) run() error {
	if err := s.begin(); err != nil {
		return err
	}
	if s.root != 0 && !s.follow(s.root) {
		s.losePage(s.root)
	}
	for s.usable() && len(s.pending)+len(s.doubted) > 0 {
		list, doubted := &s.pending, len(s.pending) == 0
		if doubted {
			list = &s.doubted
		}
		id := (*list)[len(*list)-1]
		*list = (*list)[:len(*list)-1]
		s.readLinked(id, doubted)
	}
	// What is left is in use, and in no tree.
	for id := uint64(2); id < s.pages && s.usable(); id++ {
		if !s.seen[id] && (s.free == nil || !s.free[id] || s.linked[id]) {
			s.readStray(id)
		}
	}
	return s.err
}

// usable reports whether to go on.
func (s *salvage) usable() bool {
	if s.err == nil {
		s.err = s.ctx.Err()
	}
	return s.err == nil
}

// begin finds out how the file is divided into pages, which are free, and where the tree begins.
func (s *salvage) begin() error {
	meta, err := readMetas(s.file)
	switch {
	case errors.Is(err, store.ErrCorrupt):
		if s.page = s.guessPage(); s.page == 0 {
			return fmt.Errorf("%w: no page makes sense", ErrFormat)
		}
		s.pages = uint64(s.size / s.page)
	case err != nil:
		return err
	default:
		s.page = int64(meta.PageSize)
		s.pages = min(meta.Pages, uint64((s.size+s.page-1)/s.page))
		s.root = meta.Root
	}
	for id := range int64(2) {
		_, whole, _ := readMeta(s.file, id*s.page)
		s.report.Rewound = s.report.Rewound || !whole
	}
	s.seen, s.linked = make([]bool, s.pages), make([]bool, s.pages)
	if s.root == 0 {
		s.report.Doubtful = true
		return nil
	}
	list, overflow, err := readFreelist(s.file, meta)
	if err != nil {
		s.report.Doubtful = true
		return nil
	}
	s.free = make([]bool, s.pages)
	for at := 0; at < len(list); at += 8 {
		if id := binary.NativeEndian.Uint64(list[at:]); id < s.pages {
			s.free[id] = true
		}
	}
	s.coverFreelist(meta.Freelist, overflow+1, uint64(len(list)))
	return nil
}

// coverFreelist marks the pages of the list of free pages as read. It says itself how many these
// are; that is believed as far as its ids take them. One more may have been made ready for it.
func (s *salvage) coverFreelist(id, said, bytes uint64) {
	n := (pageHeaderSize+8+bytes)/uint64(s.page) + 1
	if said > n && id+n < s.pages {
		if page, _, ok := s.load(id + n); ok && len(trimZeros(page)) == 0 {
			n++
		}
	}
	s.cover(id, n)
}

// guessPage returns the size of pages by which most pages say that they are themselves, or 0.
func (s *salvage) guessPage() (best int64) {
	most := 0
	for size := int64(minPageSize); size <= 1<<16; size *= 2 {
		right := 0
		for id := range min(1_000, uint64(s.size/size)) {
			if h, ok := s.header(id, size); ok && h.ID == id && h.Flags == leafFlag {
				right++
			}
		}
		if right > most {
			best, most = size, right
		}
	}
	return best
}

func (s *salvage) header(id uint64, size int64) (h pageHeader, ok bool) {
	var buf [pageHeaderSize]byte
	if _, err := s.file.ReadAt(buf[:], int64(id)*size); err != nil {
		return h, false
	}
	_, err := binary.Decode(buf[:], binary.NativeEndian, &h)
	return h, err == nil
}

// cover marks pages as read.
func (s *salvage) cover(id, n uint64) {
	for i := id; i < s.pages && i < id+n; i++ {
		s.seen[i] = true
	}
}

// follow goes on to a page that another one leads to, and reports whether that makes sense. If the
// page is free, what leads there or the list of free pages is wrong, and it may be of an old state:
// then what is stored in it is a stray.
func (s *salvage) follow(id uint64) bool {
	switch {
	case id < 2 || id >= s.pages || s.seen[id]:
		return false
	case s.free != nil && s.free[id]:
		s.linked[id] = true
		return false
	}
	s.pending = append(s.pending, id)
	return true
}

func (s *salvage) load(id uint64) (page []byte, h pageHeader, ok bool) {
	page = make([]byte, min(s.page, s.size-int64(id)*s.page))
	if _, err := s.file.ReadAt(page, int64(id)*s.page); err != nil || len(page) < pageHeaderSize {
		return nil, h, false // a bad sector, or the end
	}
	_, err := binary.Decode(page, binary.NativeEndian, &h)
	return page, h, err == nil
}

// readLinked reads a page that another one leads to.
func (s *salvage) readLinked(id uint64, doubted bool) {
	if s.seen[id] {
		return
	}
	page, h, ok := s.load(id)
	if ok && h.ID != id && !doubted {
		// It may be the inside of a long value, which is known once the others have been read.
		s.doubted = append(s.doubted, id)
		return
	}
	s.seen[id] = true
	if !ok {
		s.losePage(id)
		return
	}
	elements, sure := s.elements(id, page, h)
	itself := h.ID == id && h.Flags == leafFlag
	if !itself && (h.Flags != leafFlag || len(elements) == 0) && !s.looksLikeLeaf(id, page, elements) {
		s.branch(id, page, h)
		return
	}
	if !sure || !itself {
		s.losePage(id)
	}
	s.leaf(id, page, elements, h, false)
}

// readStray reads a page that nothing leads to. Only the page itself, or an entry in it, says that it
// is one.
func (s *salvage) readStray(id uint64) {
	s.seen[id] = true
	page, h, ok := s.load(id)
	var elements []element
	itself, sure := ok && h.ID == id && h.Flags == leafFlag, false
	if ok {
		elements, sure = s.elements(id, page, h)
	}
	if !itself && !s.looksLikeLeaf(id, page, elements) {
		elements = nil
		if ok && h.ID == id && h.Flags == branchFlag {
			return // what it leads to is a stray itself
		}
		if s.free == nil {
			return // it may never have been a page
		}
	}
	if !sure || !itself {
		s.losePage(id)
	}
	s.leaf(id, page, elements, h, true)
}

func (s *salvage) losePage(id uint64) {
	s.gaps = true
	s.lose(Lost{Reason: LostPage, Page: id})
}

func (s *salvage) lose(l Lost) {
	s.report.Lost++
	if s.o.Lost != nil {
		s.o.Lost(l)
	}
}

// element is an element of a page: where its key begins there, and how long key and value are.
type element struct {
	flags          uint32 // of a leaf
	at, key, value int64
}

func (e element) bucket() bool { return e.flags == bucketFlag }

func (e element) end() int64 { return e.at + e.key + e.value }

// layout returns the element at an offset of a page.
type layout func(raw [4]uint32, at int64) element

func leafLayout(raw [4]uint32, at int64) element {
	return element{raw[0], at + int64(raw[1]), int64(raw[2]), int64(raw[3])}
}

func branchLayout(raw [4]uint32, at int64) element {
	return element{0, at + int64(raw[0]), int64(raw[1]), 0}
}

func elementAt(page []byte, i int, l layout) (e element, ok bool) {
	at := pageHeaderSize + i*elementSize
	if at+elementSize > len(page) {
		return e, false
	}
	var raw [4]uint32
	_, err := binary.Decode(page[at:], binary.NativeEndian, &raw)
	return l(raw, int64(at)), err == nil
}

func trimZeros(page []byte) []byte { return bytes.TrimRight(page, "\x00") }

// countIn returns how many elements a page has. Three places say so: its header, where the first
// key begins, and where the second begins, less the first element. If they differ, what two say is
// right, or else the least. sure reports whether all agree.
func countIn(page []byte, h pageHeader, l layout) (n int, sure bool) {
	most := int64(len(page)-pageHeaderSize) / elementSize
	said := []int64{int64(h.Count)}
	begins := func(at int64) {
		if at%elementSize == 0 {
			said = append(said, (at-pageHeaderSize)/elementSize)
		} else {
			said = append(said, -1)
		}
	}
	if h.Count == 0 && len(trimZeros(page[pageHeaderSize:])) == 0 {
		return 0, true
	}
	if first, ok := elementAt(page, 0, l); ok {
		begins(first.at)
		if second, ok := elementAt(page, 1, l); ok && (said[0] > 1 || said[1] > 1) {
			begins(second.at - first.key - first.value)
		}
	}
	sure = len(said) > 1
	for i, v := range said {
		sure = sure && v == said[0]
		if v <= 0 || v > most {
			continue
		}
		for _, other := range said[:i] {
			if other == v {
				n = int(v)
			}
		}
	}
	if n == 0 {
		for _, v := range said {
			if v > 0 && v <= most && (n == 0 || int(v) < n) {
				n = int(v)
			}
		}
	}
	return n, sure
}

// elements returns the elements of a leaf page, and reports whether these are all. If the page does
// not say for sure how many it has, they are those that it seems to have, and whatever more is an
// entry and lies before what the first of them leads to.
func (s *salvage) elements(id uint64, page []byte, h pageHeader) (all []element, sure bool) {
	n, sure := countIn(page, h, leafLayout)
	ends := int64(len(page))
	for i := 0; i < n || !sure; i++ {
		e, ok := elementAt(page, i, leafLayout)
		if !ok || !sure && int64(pageHeaderSize+(i+1)*elementSize) > ends {
			break
		}
		whole := !sure && s.whole(id, page, e)
		if whole {
			ends = min(ends, e.at)
		}
		if i < n || whole {
			all = append(all, e)
		}
	}
	return all, sure
}

// whole reports whether an element is one of an entry whose checksum is right, and nothing that may
// be the inside of a value.
func (s *salvage) whole(id uint64, page []byte, e element) bool {
	if e.flags != 0 {
		return false
	}
	key, value, ok := s.bytes(id, page, e)
	if !ok {
		return false
	}
	version, _, err := unseal(key, value)
	return err == nil && version < 1<<48
}

// looksLikeLeaf reports whether one of a page's elements is an entry, or one of the file's buckets.
func (s *salvage) looksLikeLeaf(id uint64, page []byte, elements []element) bool {
	for _, e := range elements {
		if s.whole(id, page, e) {
			return true
		}
		key, _, ok := s.bytes(id, page, e)
		for _, name := range [][]byte{recordsBucket, feedBucket, metaBucket} {
			if ok && e.bucket() && id == s.root && bytes.Equal(key, name) {
				return true
			}
		}
	}
	return false
}

// leaf restores the elements of a page.
func (s *salvage) leaf(id uint64, page []byte, elements []element, h pageHeader, stray bool) {
	events, bad := 0, 0
	for i, e := range elements {
		key, value, ok := s.bytes(id, page, e)
		switch {
		case !ok:
			s.losePage(id) // what it was cannot be told
		case e.bucket() && id == s.root:
			if !s.bucket(value) {
				s.losePage(id)
			}
		default:
			whole, event := s.entry(id, key, value, stray, false)
			if event {
				events++
			}
			if !whole {
				bad++
			}
			last := i+1 == len(elements)
			ends := !last && elements[i+1].at == e.end() ||
				last && (e.end()-1)/s.page == int64(h.Overflow)
			if e.end() > s.page && (whole || ends) {
				s.cover(id+1, uint64((e.end()-1)/s.page))
			}
		}
	}
	if bad > 0 && (events > 0 || bad == len(elements)) {
		s.gaps = true // it may have been an event, under another key
	}
}

// bytes returns the key and the value of an element, which may go on in the pages after its own.
func (s *salvage) bytes(id uint64, page []byte, e element) (key, value []byte, ok bool) {
	switch {
	case e.key < 1 || e.key > store.MaxKey || e.value > sealSize+store.MaxValue:
		return nil, nil, false
	case e.end() <= int64(len(page)):
		return page[e.at : e.at+e.key], page[e.at+e.key : e.end()], true
	case int64(id)*s.page+e.end() > s.size:
		return nil, nil, false
	}
	all := make([]byte, e.key+e.value)
	if _, err := s.file.ReadAt(all, int64(id)*s.page+e.at); err != nil {
		return nil, nil, false
	}
	return all[:e.key], all[e.key:], true
}

// bucket goes on to what a bucket holds, and reports whether all of it makes sense.
func (s *salvage) bucket(value []byte) bool {
	if len(value) < bucketSize+pageHeaderSize && len(value) != bucketSize {
		return false
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return s.follow(root)
	}
	inline := value[bucketSize:]
	var h pageHeader
	if _, err := binary.Decode(inline, binary.NativeEndian, &h); err != nil {
		return false
	}
	n, sure := countIn(inline, h, leafLayout)
	for i := range n {
		e, _ := elementAt(inline, i, leafLayout)
		if e.key < 1 || e.end() > int64(len(inline)) {
			sure = false
			continue
		}
		s.entry(s.root, inline[e.at:e.at+e.key], inline[e.at+e.key:e.end()], false, true)
	}
	return sure && h.Flags == leafFlag
}

// branch goes on to the pages that a page leads to.
func (s *salvage) branch(id uint64, page []byte, h pageHeader) {
	n, sure := countIn(page, h, branchLayout)
	whole := sure && n > 0 && h.ID == id && h.Flags == branchFlag
	for i := range n {
		at := pageHeaderSize + i*elementSize + 8
		whole = s.follow(binary.NativeEndian.Uint64(page[at:])) && whole
	}
	if !whole {
		s.losePage(id)
	}
}

// entry restores a sealed entry if its checksum is right, and reports whether it is and whether it
// is an event. inline says that it is in a small bucket, as those of the file itself do.
func (s *salvage) entry(id uint64, key, data []byte, stray, inline bool) (whole, event bool) {
	version, value, err := unseal(key, data)
	seq := store.Seq(0)
	if len(key) == seqSize {
		seq = store.Seq(binary.BigEndian.Uint64(key))
	}
	if err != nil {
		l := Lost{Reason: LostDamaged, Page: id, Key: store.Key(key)}
		// No record has a key that begins with zeros.
		if event = seq != 0 && seq < 1<<48; event {
			l.Key, l.Event = "", seq
			s.out.lost = append(s.out.lost, seq)
		} else if !stray {
			s.damaged[string(key)] = true
		}
		s.lose(l)
		return false, event
	}
	if inline && s.own(key, version, value) {
		return true, false
	}
	s.head = max(s.head, version)
	event = seq != 0 && seq == version
	switch {
	case stray:
		s.stray(id, key, data, version, event)
	case event:
		s.report.Events++
		s.put(feedBucket, key, data)
	default:
		s.report.Records++
		s.put(recordsBucket, key, data)
	}
	return true, event
}

func (s *salvage) put(bucket, key, data []byte) {
	if err := s.out.put(bucket, key, data); s.err == nil {
		s.err = err
	}
}

// own keeps what the file says of itself, and reports whether an entry is that.
func (s *salvage) own(key []byte, version store.Seq, value []byte) bool {
	switch {
	case bytes.Equal(key, formatKey):
		return bytes.Equal(value, []byte(formatMark))
	case len(value) > 0:
		return false
	case bytes.Equal(key, headKey):
		s.head = max(s.head, version)
	case bytes.Equal(key, firstKey):
		s.first = version
	default:
		return bytes.Equal(key, openKey) || bytes.Equal(key, compactKey)
	}
	return true
}

// stray restores an entry that is in no tree, if it is wanted, and lists it otherwise. Of several
// under one key the newest is taken. What the tree has, damaged or not, is newer.
func (s *salvage) stray(id uint64, key, data []byte, version store.Seq, event bool) {
	bucket, l := recordsBucket, Lost{Reason: LostStray, Page: id, Key: store.Key(key)}
	if event {
		bucket, l.Key, l.Event = feedBucket, "", version
	}
	was, strayed, err := s.out.has(bucket, key)
	if err != nil {
		s.err = err
		return
	}
	if was != 0 && (!strayed || was >= version) {
		return
	}
	if s.o.Strays == nil || s.damaged[string(key)] || !event && !s.o.Strays(store.Key(key)) {
		s.gaps = s.gaps || event
		s.lose(l)
		return
	}
	switch {
	case was != 0:
	case event:
		s.report.Events++
	default:
		s.report.Records++
		s.report.Strays++
	}
	s.out.strays[string(bucket)+string(key)] = true
	s.put(bucket, key, data)
}

// rescue is the new file. It has no name until it is published.
type rescue struct {
	db      *bbolt.DB
	file    string
	entries map[string][]entry // by bucket, yet to be written
	bytes   int
	strays  map[string]bool // keys that strays were restored under, with their bucket
	lost    []store.Seq     // damaged events
}

func newRescue(to string) (*rescue, error) {
	if _, err := os.Lstat(to); err == nil {
		return nil, fs.ErrExist
	}
	dir, base := filepath.Split(to)
	f, err := os.CreateTemp(filepath.Clean(dir), "."+base+".new-*") // with mode 0600
	if err != nil {
		return nil, err
	}
	choices := options(0, func(string, int, os.FileMode) (*os.File, error) { return f, nil })
	choices.NoSync = true // it counts only once it is published
	db, err := bbolt.Open(f.Name(), 0, choices)
	if err != nil {
		_ = f.Close()
		_ = os.Remove(f.Name())
		return nil, err
	}
	r := &rescue{db: db, file: f.Name(), entries: map[string][]entry{}, strays: map[string]bool{}}
	if err := db.Update(initialize); err != nil {
		r.discard()
		return nil, err
	}
	return r, nil
}

// discard removes the file if it has no name, and closes it.
func (r *rescue) discard() {
	_ = r.db.Close()
	_ = os.Remove(r.file)
}

func (r *rescue) put(bucket, key, data []byte) error {
	name := string(bucket)
	r.entries[name] = append(r.entries[name], entry{bytes.Clone(key), bytes.Clone(data)})
	if r.bytes += len(key) + len(data); len(r.entries[name]) < chunkEntries && r.bytes < chunkBytes {
		return nil
	}
	return r.write()
}

func (r *rescue) write() error {
	err := r.db.Update(func(tx *bbolt.Tx) error {
		for name, entries := range r.entries {
			b := tx.Bucket([]byte(name))
			b.FillPercent = loadFill
			for _, e := range entries {
				if err := b.Put(e.key, e.sealed); err != nil {
					return err
				}
			}
		}
		return nil
	})
	clear(r.entries)
	r.bytes = 0
	if err != nil {
		return translate(err)
	}
	return nil
}

// has returns the version that is under a key, 0 for none, and whether it was a stray.
func (r *rescue) has(bucket, key []byte) (version store.Seq, stray bool, err error) {
	if err := r.write(); err != nil {
		return 0, false, err
	}
	err = r.db.View(func(tx *bbolt.Tx) error {
		if data := tx.Bucket(bucket).Get(key); data != nil {
			version, _, err = unseal(key, data)
		}
		return err
	})
	return version, r.strays[string(bucket)+string(key)], err
}

// finish completes the file: where it begins and ends, and damaged events for those that are lost.
func (r *rescue) finish(head, first store.Seq, gaps bool) error {
	if err := r.write(); err != nil {
		return err
	}
	return r.db.Update(func(tx *bbolt.Tx) error {
		feed := tx.Bucket(feedBucket)
		least := head + 1
		if key, _ := feed.Cursor().First(); key != nil {
			least = store.Seq(binary.BigEndian.Uint64(key))
		}
		if first == 0 || first > head+1 {
			first = least
		}
		mark := func(seq store.Seq) error { // an entry that is too short for a checksum
			if seq < first || seq > head || feed.Get(seqKey(seq)) != nil {
				return nil
			}
			return feed.Put(seqKey(seq), []byte{0})
		}
		for _, seq := range r.lost {
			if err := mark(seq); err != nil {
				return err
			}
		}
		for seq := head; gaps && seq >= first && seq > 0; seq-- {
			if feed.Get(seqKey(seq)) == nil {
				if err := mark(seq); err != nil {
					return err
				}
				break
			}
		}
		return errors.Join(putMeta(tx, headKey, head), putMeta(tx, firstKey, first))
	})
}

// publish makes the file durable and gives it its name.
func (r *rescue) publish(to string) error {
	if err := errors.Join(r.db.Sync(), r.db.Close()); err != nil {
		return err
	}
	if err := os.Link(r.file, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}
