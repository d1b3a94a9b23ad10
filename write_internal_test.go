package denizen

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/txn"
)

// Nobody escapes a block by a queue that it keeps full.
func TestWrite_ThereIsRoomInAQueueForWhoEndsSomething(t *testing.T) {
	alice := Principal{kind: kindUser, user: "alice-01"}
	for name, row := range map[string]struct {
		c    call
		room int
	}{
		"a user who writes":          {call{by: alice, op: opWriteProfile}, 256},
		"a user who ends a token":    {call{by: alice, op: opRevokeToken}, 512},
		"a user who logs out":        {call{by: alice, op: opLogout}, 512},
		".system that blocks a user": {call{by: System(), op: opBlockUser}, 1024},
	} {
		row.c.target = "alice-01"
		require.Equal(t, txn.Queue{Key: "ualice-01", Room: row.room}, row.c.queue(), name)
	}
}

// A user may be called what another queue is called.
func TestWrite_NoUserSharesAQueueWithWhatIsAboutNobody(t *testing.T) {
	none := call{by: System(), op: opAccessKeys}
	require.NotEmpty(t, none.queue().Key)
	for _, id := range []UserID{"u", "heartbeats", "a"} {
		of := call{by: System(), op: opBlockUser, target: id}
		require.NotEqual(t, none.queue().Key, of.queue().Key)
	}
}
