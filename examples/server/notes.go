package main

import (
	"errors"
	"net/http"
	"sync"
	"unicode/utf8"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

const (
	maxNote  = 1000      // characters
	maxNotes = 32 << 10  // bytes of one author, each note counted with what keeping it takes
	maxBytes = 256 << 20 // of all
	overhead = 128       // bytes a note, at most, and an author
)

// notes keeps notes of people, each seen by its author alone, until the program ends. It stands
// behind httpadapter.Require: who calls is a user.
type notes struct {
	dir *denizen.Directory

	mu    sync.Mutex
	texts map[string][]string // by the InternalID of their author, which is no later user's
	sizes map[string]int      // in bytes, by author; guarded by mu, as are texts and size
	size  int                 // of all
}

func newNotes(dir *denizen.Directory) *notes {
	return &notes{dir: dir, texts: map[string][]string{}, sizes: map[string]int{}}
}

func (n *notes) read(w http.ResponseWriter, r *http.Request) {
	author, ok := n.author(w, r)
	if !ok {
		return
	}
	n.mu.Lock()
	texts := append([]string{}, n.texts[author]...)
	n.mu.Unlock()
	answer(w, http.StatusOK, map[string][]string{"notes": texts})
}

func (n *notes) write(w http.ResponseWriter, r *http.Request) {
	var note struct {
		Text string `json:"text"`
	}
	author, ok := n.author(w, r)
	if !ok || !read(w, r, &note) {
		return
	}
	if note.Text == "" || utf8.RuneCountInString(note.Text) > maxNote {
		refuse(w, http.StatusBadRequest, "invalid_parameter_set", "text must be 1 to 1000 characters")
		return
	}
	if !n.keep(author, note.Text) {
		refuse(w, http.StatusConflict, "limit_exceeded", "that is too many notes")
		return
	}
	// Who was erased meanwhile was so before this or will be: either way no note is left.
	by := httpadapter.PrincipalFrom(r.Context()).User()
	if u, err := n.dir.User(r.Context(), denizen.System(), by); errors.Is(err, denizen.ErrNotFound) ||
		err == nil && u.InternalID != author {
		n.forget(author)
	}
	answer(w, http.StatusCreated, note)
}

func (n *notes) keep(author, text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	more := len(text) + overhead
	if n.sizes[author] == 0 {
		more += overhead
	}
	if n.sizes[author]+more > maxNotes || n.size+more > maxBytes {
		return false
	}
	n.texts[author] = append(n.texts[author], text)
	n.sizes[author] += more
	n.size += more
	return true
}

// forget removes the notes of an author.
func (n *notes) forget(author string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.size -= n.sizes[author]
	delete(n.sizes, author)
	delete(n.texts, author)
}

// author returns who calls, by an id that is never another's.
func (n *notes) author(w http.ResponseWriter, r *http.Request) (internalID string, ok bool) {
	by := httpadapter.PrincipalFrom(r.Context())
	u, err := n.dir.User(r.Context(), by, by.User())
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, "unavailable", "try again")
		return "", false
	}
	return u.InternalID, true
}
