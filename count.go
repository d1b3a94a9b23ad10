package denizen

import (
	"context"

	"github.com/denizenhq/denizen/internal/census"
	"github.com/denizenhq/denizen/store"
)

// CountUsers answers how many users there are, or were a moment ago if somebody writes
// meanwhile. The first call walks all keys, later ones follow the feed. For .system only.
func (d *Directory) CountUsers(ctx context.Context, by Principal) (n int, err error) {
	defer wrapOp("CountUsers", &err)
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
	return census.New(s, string(EventUserCreated), string(EventUserDeleted))
}
