package spec_test

import (
	"bytes"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/verify"
)

func TestOperating_ADirectoryInPostgreSQLIsVerifiedAndCountedWhileProcessesWrite(t *testing.T) {
	ps := newProcesses(t, denizen.Options{}, 0, 0)
	id, _ := ps[0].alice(t)
	_, err := ps[0].DefineAttribute(ctx, system, denizen.AttributeDef{Key: "bio"})
	require.NoError(t, err)
	var all sync.WaitGroup
	done := make(chan struct{})
	for i := range 4 {
		all.Go(func() {
			p := ps[i%2]
			for {
				select {
				case <-done:
					return
				default:
				}
				u, err := p.CreateUser(ctx, system, denizen.NewUser{
					ScreenName: "Somebody", Attributes: []denizen.Attribute{{Key: "bio", Value: "x"}},
				})
				if err == nil {
					_, err = p.IssueToken(ctx, system, u.ID, denizen.TokenOptions{})
				}
				if err == nil && i < 3 {
					err = p.DeleteUser(ctx, system, u.ID)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	damaged := func() (found []verify.Damage) {
		for damage, err := range verify.Directory(ctx, ps[1].Directory, system) {
			require.NoError(t, err)
			found = append(found, damage)
		}
		return found
	}
	for range 10 {
		require.Empty(t, damaged())
	}
	close(done)
	all.Wait()
	s, err := ps[0].Stats(ctx, system)
	require.NoError(t, err)
	require.NotZero(t, s.Commits.Groups)
	require.GreaterOrEqual(t, s.Commits.Applied, s.Commits.Groups-s.Commits.Conflicts-s.Commits.Failed-1)
	_, err = ps[0].store.Commit(ctx, store.Batch{Drop: []store.Key{record.TokensKey(string(id))}})
	require.NoError(t, err)
	require.Equal(t, []verify.Damage{{Record: "token text", Reason: "is listed by no token"}}, damaged())

	var b bytes.Buffer
	_, err = ps[0].Backup(ctx, system, &b)
	e := new(denizen.Error)
	require.ErrorAs(t, err, &e)
	require.Equal(t, []any{denizen.ErrInvalid, "store"}, []any{e.Kind, e.Field})
	require.Zero(t, b.Len())
}
