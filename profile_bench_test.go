package denizen_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
)

// What a small change of a full profile costs on disk: the profile is one record, which is
// written anew. It reports bytes written by the process for a change, where the system counts them.
//
//	go test -run '^$' -bench FullProfile -benchtime 200x .
func BenchmarkASmallChangeOfAFullProfile(b *testing.B) {
	for _, size := range []int{0, 16 << 10, 64 << 10, 240 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			d := newBolt(b, denizen.Options{})
			newUser(b, d, alice)
			set := func(key, value string) {
				_, err := d.SetAttribute(b.Context(), sys, alice, denizen.Attribute{Key: key, Value: value})
				require.NoError(b, err)
			}
			for i := range 5 {
				_, err := d.DefineAttribute(b.Context(), sys, denizen.AttributeDef{Key: fmt.Sprint(i)})
				require.NoError(b, err)
			}
			for i := range 4 {
				if size > 0 {
					set(fmt.Sprint(i), strings.Repeat("v", size/4))
				}
			}
			before := written()
			i := 0
			for b.Loop() {
				i++
				set("4", fmt.Sprint(i))
			}
			if before > 0 {
				b.ReportMetric(float64(written()-before)/float64(i), "written-B/op")
			}
		})
	}
}

// written returns the bytes that this process wrote so far, 0 where the system does not count them.
func written() (bytes int64) {
	counts, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(counts), "wchar: ")
	_, _ = fmt.Sscan(after, &bytes)
	return bytes
}
