package group

import (
	"sync"

	"github.com/denizenhq/denizen/store"
)

// Owner records whether a store is owned. The zero value is ready to use and not owned.
type Owner struct {
	mu    sync.Mutex // guards owned
	owned bool
}

// Own makes the caller the owner until it calls release, or returns store.ErrOwned. Calling release
// again does nothing, even if somebody else owns the store by then.
func (o *Owner) Own() (release func(), err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.owned {
		return nil, store.ErrOwned
	}
	o.owned = true
	return sync.OnceFunc(func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.owned = false
	}), nil
}
