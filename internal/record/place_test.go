package record_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

func FuzzParsePlace(f *testing.F) {
	f.Add("")
	f.Add(record.Place{Epoch: 1, Seq: 2, Digest: 3}.String())
	f.Add(record.Place{Epoch: -1, Seq: store.End - 1, Digest: 1<<64 - 1}.String())
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")
	f.Add("________________________________")
	f.Fuzz(func(t *testing.T, text string) {
		p, ok := record.ParsePlace(text)
		if !ok {
			return
		}
		require.NotZero(t, p.Seq)
		require.NotEqual(t, store.End, p.Seq)
		require.Equal(t, text, p.String(), "a place has one spelling")
	})
}

func TestADigestIsOfWhatAnEventSays(t *testing.T) {
	e := record.Event{At: 946684800000, What: "user.created", Actor: ".system", User: "alice-0001", Incarnation: "i", Subjects: []string{"a", "b"}}
	of := func(value string) uint64 { return record.DigestOf(store.Change{Seq: 1, Event: []byte(value)}) }
	want := of(string(record.Encode(&e)))
	require.Equal(t, uint64(0xfd00efdce2b9325b), want, "consumers have stored it")
	// A store may spell it anew, and a later version may add to it.
	require.Equal(t, want, of(`{"what": "user.created", "at": 946684800000, "kind": "event", "user": "alice-0001", "actor": ".system", "incarnation": "i", "subjects": ["a", "b"]}`))
	require.Equal(t, want, of(`{"kind":"event","at":946684800000,"what":"user.created","actor":".system","user":"alice-0001","incarnation":"i","subjects":["a","b"],"later":"x"}`))
	e.Operator = "ada"
	require.Equal(t, want, e.Digest(), "it was added")
	require.Equal(t, want, of(string(record.Encode(&e))))
	for _, change := range []func(*record.Event){
		func(e *record.Event) { e.At++ },
		func(e *record.Event) { e.What = "user.renamed" },
		func(e *record.Event) { e.Actor = "alice-0001" },
		func(e *record.Event) { e.AccessKey = "k" },
		func(e *record.Event) { e.User = "bob-0001" },
		func(e *record.Event) { e.Incarnation = "j" },
		func(e *record.Event) { e.Subjects = []string{"ab"} },
		func(e *record.Event) { e.Subjects = nil },
		func(e *record.Event) { e.Other = "bob-0001" },
	} {
		other := e
		change(&other)
		require.NotEqual(t, want, other.Digest())
	}
	require.Zero(t, of(`{"kind":"another"}`))
	require.Zero(t, record.DigestOf(store.Change{Seq: 1, Damaged: true}))
}
