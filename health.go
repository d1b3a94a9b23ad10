package denizen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// health is what Health reports beside the state of the duties.
type health struct {
	sync.Mutex                  // guards the fields below, both in Unix milliseconds
	damagedAt  int64            // when a damaged record was last met; 0: never
	logged     map[string]int64 // when something was last logged, by its subject
}

// damageKnownFor is how long damage is reported after it was met, in milliseconds. The hourly sweep
// meets most of it again.
const damageKnownFor = 3 * 60 * 60 * 1000

// Health returns nil while all is well: the store reports no failure (see store.Checker), no
// damaged record was met in the last three hours, and no background duty fails or is late. A duty
// is late when it is half an interval behind, or a whole one for heartbeats.
//
// Otherwise it returns [ErrCorrupt] if something is damaged, and [ErrUnavailable] if not. Field is
// "store" if the store refuses reads or writes until it is opened anew, as a file does after a
// failed sync: restart the program. In any other case the directory is usable, and only degraded.
// Reason names the duties, for people, and Error.Cause has the errors behind it. Options.Logger
// gets what a damaged record belongs to. Health reads nothing from the store but the access key of
// by. Only .system may.
func (d *Directory) Health(ctx context.Context, by Principal) (err error) {
	defer d.trace(&ctx, "Health", &by).end(&err)
	c, err := d.enter(ctx, opHealth, by, noTarget)
	if err != nil {
		return err
	}
	if _, err := d.read(ctx, &c); err != nil {
		return err
	}
	return d.condition(c.now)
}

// condition returns nil or what Health returns.
func (d *Directory) condition(now int64) error {
	if d.parent != nil {
		d = d.parent
	}
	found := &Error{Op: "Health", Kind: ErrUnavailable}
	var causes []error
	var reasons []string
	add := func(reason string, err error) {
		if errors.Is(err, store.ErrCorrupt) {
			found.Kind = ErrCorrupt
		}
		reasons, causes = append(reasons, reason), append(causes, err)
	}
	if checker, ok := d.store.(store.Checker); ok {
		if err := checker.Health(); err != nil {
			if errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrClosed) {
				found.Field = "store"
			}
			add("the store is not well", err)
		}
	}
	d.health.Lock()
	damagedAt := d.health.damagedAt
	d.health.Unlock()
	if damagedAt != 0 && now-damagedAt < damageKnownFor {
		add("a stored record is damaged", record.ErrCorrupt)
	}
	for _, t := range d.background.duties {
		if err := t.state(now); err != nil {
			reason := t.name + " fail"
			if err == errLate {
				reason = t.name + " fall behind"
			}
			add(reason, fmt.Errorf("%s: %w", t.name, err))
		}
	}
	if len(causes) == 0 {
		return nil
	}
	found.Reason, found.cause = strings.Join(reasons, ", "), errors.Join(causes...)
	return found
}

// met notes that a damaged record was met.
func (d *Directory) met(key store.Key) {
	d.health.Lock()
	d.health.damagedAt = d.clock.Now()
	d.health.Unlock()
	kind, user := record.Of(key)
	d.warn("damage", "a stored record is damaged",
		slog.String("record", kind), slog.String("user", user))
}

// warn logs text, at most once a minute for one subject.
func (d *Directory) warn(about, text string, attrs ...slog.Attr) {
	if d.options.Logger == nil {
		return
	}
	now := d.clock.Now()
	d.health.Lock()
	last, known := d.health.logged[about]
	silent := known && now-last < everyMinute.Milliseconds()
	if !silent {
		d.health.logged[about] = now
	}
	d.health.Unlock()
	if !silent {
		d.options.Logger.LogAttrs(context.Background(), slog.LevelWarn, "denizen: "+text, attrs...)
	}
}
