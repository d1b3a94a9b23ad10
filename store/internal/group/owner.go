package group

import (
	"sync"

	"github.com/denizenhq/denizen/store"
)

// Owner keeps who owns a store: nobody or one. Its zero value is ready to use.
type Owner struct {
	mu    sync.Mutex
	owned bool
}

// Own makes the caller the owner until it calls release, or answers store.ErrOwned.
// Calling release again does nothing, even if someone else owns the store by then.
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
