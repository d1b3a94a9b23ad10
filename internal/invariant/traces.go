package invariant

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

// Traces returns those of texts that the contents of a store hold, in a key, a value or an event:
// see [TracesIn].
func Traces(t testing.TB, s store.Store, texts ...string) []string {
	t.Helper()
	var all bytes.Buffer
	dump := Of(t, s)
	for _, r := range dump.Records {
		all.WriteString(string(r.Key))
		all.WriteByte('\n')
		all.Write(r.Value)
		all.WriteByte('\n')
	}
	feed := dump.Feed
	for len(feed.Changes) > 0 {
		for _, ch := range feed.Changes {
			all.Write(ch.Event)
			all.WriteByte('\n')
		}
		var err error
		feed, err = s.Changes(t.Context(), feed.Changes[len(feed.Changes)-1].Seq, store.MaxPage)
		require.NoError(t, err)
	}
	return TracesIn(all.Bytes(), texts...)
}

// TracesIn returns those of texts that content holds: as they are or as JSON spells them, without
// regard to case, or somewhere in what was encoded as base64 or in hexadecimal.
func TracesIn(content []byte, texts ...string) (found []string) {
	lower := bytes.ToLower(content)
	for _, text := range texts {
		if holds(content, lower, text) {
			found = append(found, text)
		}
	}
	return found
}

func holds(content, lower []byte, text string) bool {
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	inJSON := string(quoted[1 : len(quoted)-1])
	ascii := strconv.QuoteToASCII(text) // JSON spells it like that up to U+FFFF
	plain := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text)
	for _, spelling := range []string{text, plain, inJSON, ascii[1 : len(ascii)-1]} {
		if bytes.Contains(lower, bytes.ToLower([]byte(spelling))) ||
			bytes.Contains(lower, []byte(hex.EncodeToString([]byte(spelling)))) {
			return true
		}
		// In base64 a text has one of three spellings, by what comes before it. Characters that
		// other bytes share in are left out.
		for skip := range 3 {
			raw := append(make([]byte, skip), spelling...)
			for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
				from, to := (skip*8+5)/6, len(raw)*8/6
				if bytes.Contains(content, []byte(encoding.EncodeToString(raw)[from:to])) {
					return true
				}
			}
		}
	}
	for _, cased := range []string{strings.ToLower(text), strings.ToUpper(text)} {
		if cased != text && bytes.Contains(lower, []byte(hex.EncodeToString([]byte(cased)))) {
			return true
		}
	}
	return false
}
