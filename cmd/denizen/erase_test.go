package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/long"
)

// denizen erase ... | head -n 0 is ended by its first write.
func TestErase_KeepsTheReceiptBeforeItShowsIt(t *testing.T) {
	dir := long.Dir(t)
	p := file(filepath.Join(dir, "people.db"))
	people(t, p)
	receipts := filepath.Join(dir, "receipts.jsonl")
	shown := false
	r := p.runIn(t, world{stdout: writer(func(b []byte) {
		shown = true
		kept, err := os.ReadFile(receipts)
		require.NoError(t, err)
		require.Equal(t, string(b), string(kept))
	})}, "erase", "-yes", "-receipts", receipts, "bob-user")
	require.Equal(t, exitDone, r.code, r.err)
	require.True(t, shown)
}

func TestErase_ShowsTheReceiptThatCannotBeKept(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no such device here")
	}
	p := file(filepath.Join(long.Dir(t), "people.db"))
	people(t, p)
	r := p.run(t, "", "erase", "-yes", "-receipts", "/dev/full", "bob-user")
	require.Equal(t, exitFailed, r.code)
	var receipt denizen.Erasure
	require.NoError(t, json.Unmarshal([]byte(r.out), &receipt))
	require.EqualValues(t, "bob-user", receipt.User)
}
