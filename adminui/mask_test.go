package adminui

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
)

func TestMask_TellsLittle(t *testing.T) {
	for _, c := range []struct {
		kind          denizen.LocatorType
		address, want string
	}{
		{denizen.TypeEmail, "alice@example.org", "a•••@e•••.org"},
		{denizen.TypeEmail, "a@b.example.co.uk", "•••@b•••.uk"},
		{denizen.TypeEmail, "a@b.c", "•••@•••.c"},
		{denizen.TypeTele, "+12015550123", "+12•••23"},
		{denizen.TypeTele, "+12345", "•••"},
		{"username", "ada", "a•••"},
		{"username", "é", "•••"},
		{"username", "éa", "é•••"},
	} {
		require.Equal(t, c.want, mask(denizen.Locator{Type: c.kind, Address: c.address}), c.address)
	}
}

func TestCount_SetsThousandsApart(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1\u202f000", 1234567: "1\u202f234\u202f567", -1234: "-1\u202f234", -123: "-123"} {
		require.Equal(t, want, count(n))
	}
}

func TestSpan_HasTwoUnitsAtMost(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 1500 * time.Millisecond: "2 s", 90 * time.Second: "1 min 30 s", time.Hour: "1 h", 25*time.Hour + time.Minute: "1 d 1 h",
	} {
		require.Equal(t, want, span(d))
	}
}

func TestShorten_KeepsCharactersWhole(t *testing.T) {
	for n, want := range map[int]string{0: "", 1: "", 2: "é", 3: "é", 4: "éé"} {
		got, whole := shorten("éé", n)
		require.Equal(t, want, got)
		require.Equal(t, n == 4, whole)
	}
}
