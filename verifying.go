package denizen

import (
	"context"
	"errors"

	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// verifier is what package verify is given.
type verifier struct {
	d *Directory
	c call
}

func (b behindDoor) Verifier(ctx context.Context, by any) (_ door.Verifier, err error) {
	defer b.trace(&ctx, "Verify", by).end(&err)
	c, err := b.d.enter(ctx, opOperate, by.(Principal), noTarget)
	if err != nil {
		return nil, err
	}
	_, err = b.d.read(ctx, &c)
	return &verifier{b.d, c}, err
}

func (v *verifier) Records(
	ctx context.Context, after store.Key, limit int,
) (page []store.Record, err error) {
	defer v.d.trace(&ctx, "Verify", &v.c.by).end(&err)
	page, err = v.d.store.List(ctx, store.Range{After: after, Limit: limit})
	if err == nil {
		_, err = v.d.read(ctx, &v.c)
	}
	return page, err
}

func (v *verifier) Get(ctx context.Context, keys ...store.Key) (rs []store.Record, err error) {
	defer v.d.trace(&ctx, "Verify", &v.c.by).end(&err)
	return v.d.store.Get(ctx, keys...)
}

func (v *verifier) Events(
	ctx context.Context, after store.Seq, limit int,
) (feed store.Feed, err error) {
	defer v.d.trace(&ctx, "Verify", &v.c.by).end(&err)
	feed, err = v.d.store.Changes(ctx, after, limit)
	for range maxTries {
		if !isMissed(err) {
			break
		}
		feed, err = v.d.store.Changes(ctx, feed.First-1, limit)
	}
	return feed, err
}

func (v *verifier) Opens(value any) (opens bool, err error) {
	defer wrapOp("Verify", &err)
	opens = true
	eachSecret(value, func(purpose string, text *string) {
		_, _, bad := v.d.unseal(purpose, *text)
		if errors.Is(bad, ErrCorrupt) {
			opens = false
		} else if bad != nil {
			err = bad
		}
	})
	return opens, err
}

func (v *verifier) Damaged(key store.Key) { v.d.met(key) }

// eachSecret calls f with each secret in a record and with what it is sealed for.
func eachSecret(value any, f func(purpose string, text *string)) {
	switch r := value.(type) {
	case *record.Directory:
		f(cursorPurpose, &r.CursorKey)
	case *record.SigningKeys:
		for i := range r.Keys {
			f(signingPurpose(r.Keys[i].ID), &r.Keys[i].Seed)
		}
	case *record.AccessKeys:
		for i := range r.Keys {
			f(accessPurpose(r.Keys[i].Key), &r.Keys[i].Secret)
		}
	}
}
