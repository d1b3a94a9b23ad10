package record

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/denizenhq/denizen/store"
)

// Place is a place in the feed of one history of a directory: that of an event.
type Place struct {
	Epoch  int64     // of the history: see Directory.Epoch
	Seq    store.Seq // of the event
	Digest uint64    // of the event; 0 if there is none at the place, or it cannot be read
}

// placeBytes is a multiple of three, so that the text of a place has one spelling.
const placeBytes = 3 * 8

// String returns the text that ParsePlace reads: 32 characters of base64url.
func (p Place) String() string {
	raw := make([]byte, 0, placeBytes)
	raw = binary.BigEndian.AppendUint64(raw, uint64(p.Epoch))
	raw = binary.BigEndian.AppendUint64(raw, uint64(p.Seq))
	raw = binary.BigEndian.AppendUint64(raw, p.Digest)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// ParsePlace reads the text of a place. It reports whether it is one.
func ParsePlace(text string) (p Place, ok bool) {
	if len(text) != placeBytes/3*4 {
		return Place{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != placeBytes { // it skips line ends
		return Place{}, false
	}
	p.Epoch = int64(binary.BigEndian.Uint64(raw))
	p.Seq = store.Seq(binary.BigEndian.Uint64(raw[8:]))
	p.Digest = binary.BigEndian.Uint64(raw[16:])
	return p, p.Seq != 0 && p.Seq != store.End
}

// DigestOf returns the digest of an event of the feed, or 0 if it cannot be read. It is of what the
// event says and not of its bytes, which a store may spell anew. Members that are added to events
// later do not count, so that two versions of this package agree.
func DigestOf(ch store.Change) uint64 {
	e, err := DecodeChange(ch)
	if err != nil {
		return 0
	}
	return e.Digest()
}

// Digest returns the digest of an event. It is never 0.
func (r *Event) Digest() uint64 {
	b := make([]byte, 0, 256)
	b = binary.BigEndian.AppendUint64(b, uint64(r.At))
	texts := [...]string{r.What, r.Actor, r.AccessKey, r.User, r.Incarnation}
	for _, s := range texts {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	for _, s := range r.Subjects {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	if r.Other != "" { // after an empty text, which no subject is
		b = append(append(b, 0), r.Other...)
	}
	sum := sha256.Sum256(b)
	return max(1, binary.BigEndian.Uint64(sum[:]))
}
