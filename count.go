package denizen

import (
	"context"

	"github.com/denizenhq/denizen/internal/census"
	"github.com/denizenhq/denizen/store"
)

// CountUsers returns how many users there are, or were a moment ago while others write. The first
// call reads the keys of all users; later ones read only the new events. Calls at once share one
// count. Only .system may.
func (d *Directory) CountUsers(ctx context.Context, by Principal) (n int, err error) {
	defer d.trace(&ctx, "CountUsers", &by).end(&err)
	c, err := d.enter(ctx, opListUsers, by, noTarget)
	if err != nil {
		return 0, err
	}
	if err := d.usable(); err != nil {
		return 0, err
	}
	if n, err = d.census.Count(ctx); err != nil {
		return 0, err
	}
	if _, err := d.read(ctx, &c); err != nil {
		return 0, err
	}
	return n, nil
}

func newCensus(s store.Store) *census.Census {
	return census.New(s, string(EventUserCreated),
		string(EventUserDeleted), string(EventUserErased), string(EventUserMerged))
}
