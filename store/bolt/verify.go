package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/denizenhq/denizen/store"
	"go.etcd.io/bbolt"
)

// Verify reads the whole file and checks it: the layout of the pages, that each page is used
// exactly once or free, the order of the keys, and every checksum. It returns [store.ErrCorrupt]
// for damage, without telling whose.
//
// Verify checks the state after the latest commit. Reads and commits go on meanwhile. They cannot
// reuse the pages of that state before Verify ends, so the file may grow.
func (s *Store) Verify(ctx context.Context) error { return s.check(ctx) }

// verifyEntries checks the checksum and version of every record and event.
func verifyEntries(ctx context.Context, tx *bbolt.Tx) error {
	head, first, err := feedBounds(tx)
	if err != nil {
		return err
	}
	if first == 0 || first-1 > head {
		return fmt.Errorf("%w: the feed begins after its end", store.ErrCorrupt)
	}
	for _, name := range [][]byte{recordsBucket, feedBucket} {
		c := tx.Bucket(name).Cursor()
		for key, data := c.First(); key != nil; key, data = c.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			version, _, err := unseal(key, data)
			if err != nil {
				return err
			}
			if version == 0 || version > head {
				return fmt.Errorf("%w: a version beyond the head", store.ErrCorrupt)
			}
		}
	}
	return nil
}

// errPage says that the page that is being read makes no sense. walk.page makes it badPage.
var errPage = errors.New("the page makes no sense")

func badPage(id uint64) error {
	return fmt.Errorf("%w: page %d makes no sense", store.ErrCorrupt, id)
}

const (
	branchFlag  = 0x01
	leafFlag    = 0x02
	bucketFlag  = 0x01 // of an element of a leaf: its value is a bucket
	elementSize = 16
	bucketSize  = 16
)

// walk follows the tree of pages in the file, without bbolt, which trusts what it reads.
type walk struct {
	ctx  context.Context
	file io.ReaderAt
	meta boltMeta
	used []bool // the pages met so far, by id
	last []byte // the previous key in the leaves of the bucket

	entry onEntry // may be nil

	branches bool   // skip the leaves inside buckets
	inside   bool   // inside a bucket
	bucket   []byte // its name; nil outside
	leaf     bool   // the previous page was a leaf
}

// onEntry is called with an entry of a bucket. It may keep what it is given.
type onEntry func(bucket, key, value []byte) error

// verifyPages checks all pages, and that each is either in the tree or free. It calls entry, if
// that is not nil, with each entry of each bucket, in order.
func verifyPages(ctx context.Context, f io.ReaderAt, entry onEntry) error {
	meta, err := readMetas(f)
	if err != nil {
		return err
	}
	w := walk{ctx: ctx, file: f, meta: meta, used: make([]bool, meta.Pages), entry: entry}
	if err := w.page(meta.Root, nil); err != nil {
		return err
	}
	if err := w.besideTree(); err != nil {
		return err
	}
	if id := slices.Index(w.used, false); id >= 0 {
		return badPage(uint64(id))
	}
	return nil
}

// verifyBranches checks the branch pages, which are a small part of the file: that they lead to
// each page only once and to no free page. bbolt would follow a cycle until the process dies.
func verifyBranches(ctx context.Context, f io.ReaderAt) error {
	meta, err := readMetas(f)
	if err != nil {
		return err
	}
	w := walk{ctx: ctx, file: f, meta: meta, used: make([]bool, meta.Pages), branches: true}
	if err := w.page(meta.Root, nil); err != nil {
		return err
	}
	return w.besideTree()
}

// besideTree uses the pages that are not in the tree: the meta pages, the list of free pages and
// the free pages themselves.
func (w *walk) besideTree() error {
	free, overflow, err := readFreelist(w.file, w.meta)
	if err != nil {
		return err
	}
	for id := uint64(0); id < 2; id++ { // the metas
		if err := w.use(id); err != nil {
			return err
		}
	}
	for id := w.meta.Freelist; id <= w.meta.Freelist+overflow; id++ {
		if err := w.use(id); err != nil {
			return err
		}
	}
	for ; len(free) > 0; free = free[8:] {
		if err := w.use(binary.NativeEndian.Uint64(free)); err != nil {
			return err
		}
	}
	return nil
}

// use marks a page as used, and refuses one that is used already or does not exist.
func (w *walk) use(id uint64) error {
	if id >= w.meta.Pages || w.used[id] {
		return badPage(id)
	}
	w.used[id] = true
	return nil
}

// page checks the page id and everything below it. least is the key under which its parent refers
// to it; no key of the page may be less.
func (w *walk) page(id uint64, least []byte) error {
	err := w.read(id, least)
	if err == errPage {
		return badPage(id)
	}
	return err
}

func (w *walk) read(id uint64, least []byte) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if id < 2 || id >= w.meta.Pages {
		return errPage
	}
	size, at := int64(w.meta.PageSize), int64(id)*int64(w.meta.PageSize)
	head := make([]byte, pageHeaderSize)
	if _, err := w.file.ReadAt(head, at); err != nil {
		return errPage
	}
	var h pageHeader
	if _, err := binary.Decode(head, binary.NativeEndian, &h); err != nil {
		return errPage
	}
	if h.ID != id || uint64(h.Overflow) >= w.meta.Pages-id {
		return errPage
	}
	for i := id; i <= id+uint64(h.Overflow); i++ {
		if err := w.use(i); err != nil {
			return err
		}
	}
	if w.branches && w.inside && h.Flags == leafFlag {
		w.leaf = true
		return nil
	}
	page := make([]byte, (int64(h.Overflow)+1)*size)
	if _, err := w.file.ReadAt(page, at); err != nil {
		return errPage
	}
	used, err := w.elements(h, page, least)
	if err != nil {
		return err
	}
	if int64(h.Overflow) != (int64(used)-1)/size {
		return errPage
	}
	w.leaf = h.Flags == leafFlag
	return nil
}

// elements checks that the elements of a page and their keys and values follow each other in order
// and without gaps, and checks what they refer to. It returns the offset at which they end.
func (w *walk) elements(h pageHeader, page, least []byte) (used int, err error) {
	if h.Flags != branchFlag && h.Flags != leafFlag {
		return 0, errPage
	}
	used = pageHeaderSize + int(h.Count)*elementSize
	if used > len(page) {
		return 0, errPage
	}
	// bbolt writes whole pages from zeroed memory.
	if h.Count == 0 && len(bytes.TrimRight(page[used:], "\x00")) > 0 {
		return 0, errPage
	}
	for i := range int(h.Count) {
		at := pageHeaderSize + i*elementSize
		var e [4]uint32
		if _, err := binary.Decode(page[at:], binary.NativeEndian, &e); err != nil {
			return 0, errPage
		}
		flags, pos, keySize, valueSize := e[0], e[1], e[2], e[3]
		if h.Flags == branchFlag {
			flags, pos, keySize, valueSize = 0, e[0], e[1], 0
		}
		value := used + int(keySize)
		if value > len(page) {
			return 0, errPage
		}
		key := page[used:value]
		// A branch's key is at most the first key of its page, and greater than all keys before.
		if bytes.Compare(key, least) < 0 || w.last != nil && bytes.Compare(key, w.last) <= 0 {
			return 0, errPage
		}
		if keySize == 0 || flags > bucketFlag || at+int(pos) != used ||
			value+int(valueSize) > len(page) {
			return 0, errPage
		}
		used = value + int(valueSize)
		switch {
		case h.Flags == branchFlag && w.branches && w.inside && i > 0 && w.leaf:
			// All pages below a page are equally deep, so this one is a leaf, too.
			err = w.use(binary.NativeEndian.Uint64(page[at+8:]))
		case h.Flags == branchFlag:
			err = w.page(binary.NativeEndian.Uint64(page[at+8:]), key)
		case flags == bucketFlag:
			outer := w.bucket
			w.bucket = key
			err = w.contents(page[value:used])
			w.bucket, w.last = outer, key
		default:
			w.last = key
			if w.entry != nil {
				err = w.entry(w.bucket, key, page[value:used])
			}
		}
		if err != nil {
			return 0, err
		}
	}
	return used, nil
}

// contents checks what is in a bucket. value is that of an element of a leaf: it has the id of the
// bucket's root page or, if the bucket is small, the whole bucket.
func (w *walk) contents(value []byte) error {
	if len(value) < bucketSize {
		return errPage
	}
	w.last = nil
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		outside := w.inside
		w.inside = true
		defer func() { w.inside = outside }()
		return w.page(root, nil)
	}
	page := value[bucketSize:]
	var h pageHeader
	if _, err := binary.Decode(page, binary.NativeEndian, &h); err != nil || h.Flags != leafFlag {
		return errPage
	}
	used, err := w.elements(h, page, nil)
	if err != nil {
		return err
	}
	if used != len(page) {
		return errPage
	}
	return nil
}
