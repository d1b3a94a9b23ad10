package denizen

import (
	"context"
	"time"

	"github.com/denizenhq/denizen/internal/record"
)

// Consumer is a consumer of the feed: see [Directory.Notify].
type Consumer struct {
	Name   string
	Cursor Cursor // the events up to here are handled
	// Stuck is the end of a batch that fails again and again, or empty. ResetConsumer with it skips
	// the batch.
	Stuck   Cursor
	Since   time.Time // since when it is stuck
	Damaged bool      // its record cannot be read; DeleteConsumer or ResetConsumer repairs it
}

// Consumers returns all consumers of the feed in byte order of their names. Only .system may.
func (d *Directory) Consumers(ctx context.Context, by Principal) (list []Consumer, err error) {
	defer d.trace(&ctx, "Consumers", &by).end(&err)
	c, err := d.enter(ctx, opFeed, by, noTarget)
	if err != nil {
		return nil, err
	}
	if err := d.usable(); err != nil {
		return nil, err
	}
	if list, err = d.listConsumers(ctx); err != nil {
		return nil, err
	}
	if _, err := d.read(ctx, &c); err != nil {
		return nil, err
	}
	return list, nil
}

// listConsumers returns what Consumers returns.
func (d *Directory) listConsumers(ctx context.Context) (list []Consumer, err error) {
	for found, err := range d.walk(ctx, record.Consumers) {
		if err != nil {
			return nil, err
		}
		_, name := record.Parts(found.Key)
		value, err := record.DecodeStored(found)
		r, ok := value.(*record.Consumer)
		if err != nil || !ok {
			list = append(list, Consumer{Name: name, Damaged: true})
			continue
		}
		list = append(list, Consumer{
			Name: name, Cursor: Cursor(r.Cursor), Stuck: Cursor(r.Stuck), Since: timeOf(r.Since),
		})
	}
	return list, nil
}

// ResetConsumer lets a consumer go on after another place: one further on to skip events, one
// further back to have them again, the empty cursor for the oldest event that is kept. It makes the
// consumer if there is none, so a new one can begin at [Directory.Head].
//
// What is no cursor is [ErrInvalid] with Field "after", and one of another history [ErrMissed]. A
// batch that is being delivered is not waited for. Only .system may.
func (d *Directory) ResetConsumer(
	ctx context.Context, by Principal, name string, after Cursor,
) (err error) {
	defer d.trace(&ctx, "ResetConsumer", &by).end(&err)
	c, err := d.enter(ctx, opFeed, by, noTarget)
	if err != nil {
		return err
	}
	if err := checkConsumer(name); err != nil {
		return err
	}
	if _, err := d.parse(after); isMissed(err) {
		return d.missed(ctx)
	} else if err != nil {
		return err
	}
	key := record.ConsumerKey(name)
	_, err = d.write(ctx, &c, func(p *plan) error {
		entries, err := p.readAny(key)
		if err != nil {
			return err
		}
		r := record.Consumer{Name: name}
		if found, ok := entries[0].Value().(*record.Consumer); ok {
			r.Holder = found.Holder
		}
		r.Cursor = string(after)
		p.Put(key, &r)
		p.emit(EventConsumerReset, nil, name)
		return nil
	})
	return err
}

// DeleteConsumer forgets a consumer. If Notify runs for the name the consumer begins anew. If there
// is no such consumer it returns [ErrNotFound] with Field "consumer". Only .system may.
func (d *Directory) DeleteConsumer(ctx context.Context, by Principal, name string) (err error) {
	defer d.trace(&ctx, "DeleteConsumer", &by).end(&err)
	c, err := d.enter(ctx, opFeed, by, noTarget)
	if err != nil {
		return err
	}
	if err := checkConsumer(name); err != nil {
		return err
	}
	key := record.ConsumerKey(name)
	_, err = d.write(ctx, &c, func(p *plan) error {
		entries, err := p.readAny(key)
		if err != nil {
			return err
		}
		if entries[0].Value() == nil && !entries[0].Damaged() {
			return newError(ErrNotFound, "consumer", "")
		}
		p.Drop(key)
		p.emit(EventConsumerDeleted, nil, name)
		return nil
	})
	return err
}
