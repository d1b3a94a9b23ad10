package group_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
	"github.com/stretchr/testify/require"
)

// foreseeing is a backend that implements Foreseer.
type foreseeing struct {
	*backend
	foreseen [][]store.Key
}

func (f *foreseeing) Foresee(keys []store.Key) { f.foreseen = append(f.foreseen, slices.Clone(keys)) }

func TestBatchesThatComeWhileABackendBeginsJoinTheGroupItForesaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &foreseeing{backend: newBackend()}
		var head group.Head
		g := group.New(f, &head)
		absent := func(k store.Key) store.Batch {
			b := put(k)
			b.If = []store.Cond{{Key: k}}
			return b
		}
		late := make(chan error, 2)
		f.hook = func(step string) error {
			if step == "begin" && f.count("begin") == 1 {
				go func() {
					_, err := g.Commit(t.Context(), absent("b"))
					late <- err
				}()
				synctest.Wait()
				go func() { // a condition with Under, so it is alone
					_, err := g.Commit(t.Context(), store.Batch{If: []store.Cond{{Key: "c", Under: true}}, Drop: []store.Key{"c"}})
					late <- err
				}()
				synctest.Wait()
			}
			return nil
		}
		seq, err := g.Commit(t.Context(), absent("a"))
		require.NoError(t, err)
		require.Equal(t, store.Seq(1), seq)
		require.NoError(t, <-late)
		require.NoError(t, <-late)
		require.Equal(t, [][]store.Key{{"a"}, {}}, [][]store.Key{f.foreseen[0], append([]store.Key{}, f.foreseen[1]...)})
		require.Equal(t, 1, f.count("versions"))
		require.Equal(t, 2, f.count("commit"))
		require.Len(t, f.wrote[0].Puts, 2)
	})
}
