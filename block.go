package denizen

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/denizenhq/denizen/internal/record"
)

// Block is how a user is blocked. The zero value is a block without a reason that never ends by
// itself.
type Block struct {
	// Reason is for .system alone, and in no event: 1024 bytes at most, valid UTF-8 without
	// U+0000. It may be empty.
	Reason string
	// Until is when the user is unblocked by itself, to the millisecond. The zero time is never.
	Until time.Time
}

// maxReason bounds the reason of a block, in bytes.
const maxReason = 1 << 10

// lastTime is the end of the year 9999 in Unix milliseconds. RFC 3339 can spell no later time.
const lastTime = 253_402_300_799_999

// check returns the end of a block in Unix milliseconds, 0 for never. A block that has ended is
// checked too.
func (b Block) check() (until int64, err error) {
	if len(b.Reason) > maxReason || !utf8.ValidString(b.Reason) || strings.ContainsRune(b.Reason, 0) {
		const rule = "must be 1024 bytes at most, and valid UTF-8 without U+0000"
		return 0, invalid("reason", rule)
	}
	if b.Until.IsZero() {
		return 0, nil
	}
	if until = b.Until.UnixMilli(); until <= 0 || until > lastTime {
		return 0, invalid("until", "must be from 1970 to 9999")
	}
	return until, nil
}

// BlockUser blocks a user, and ends all its tokens and its presence in the same commit. While the
// block lasts the user gets no token and no presence, and to its peers it is [ErrNotFound].
//
// A block ends by [Directory.UnblockUser], or by itself at Block.Until. Then the user is not
// blocked any more, without a commit and without an event. Each process goes by its own clock. An
// end that is not in the future is [ErrInvalid] with Field "until".
//
// A user who is blocked already is blocked as b says from then on. If that is how it is blocked
// nothing changes. Only .system may.
func (d *Directory) BlockUser(
	ctx context.Context, by Principal, id UserID, b Block, expected ...UserVersion,
) (u User, err error) {
	defer d.trace(&ctx, "BlockUser", &by).end(&err)
	c, err := d.enter(ctx, opBlockUser, by, id)
	if err != nil {
		return User{}, err
	}
	until, err := b.check()
	if err != nil {
		return User{}, err
	}
	if until != 0 && until <= c.now {
		return User{}, invalid("until", "must be in the future")
	}
	return d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		if r.Blocked && r.BlockedUntil == until && r.BlockReason == b.Reason {
			return errUnchanged
		}
		r.Blocked, r.BlockedUntil, r.BlockReason = true, until, b.Reason
		p.emit(EventUserBlocked, r)
		devices, err := p.devicesOf(r)
		if err != nil {
			return err
		}
		p.setDevices(r, devices, nil)
		if err := p.dropProofs(r.ID); err != nil {
			return err
		}
		return p.dropTokens(r)
	})
}

// UnblockUser ends a block. The tokens and the presence that the block ended do not come back. Only
// .system may.
func (d *Directory) UnblockUser(
	ctx context.Context, by Principal, id UserID, expected ...UserVersion,
) (u User, err error) {
	defer d.trace(&ctx, "UnblockUser", &by).end(&err)
	c, err := d.enter(ctx, opBlockUser, by, id)
	if err != nil {
		return User{}, err
	}
	return d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		if !r.Blocked {
			return errUnchanged
		}
		r.Blocked, r.BlockedUntil, r.BlockReason = false, 0, ""
		p.emit(EventUserUnblocked, r)
		return nil
	})
}

// endBlock makes it final that a block has ended by itself, in a write that lets its user in. So
// nobody with a token or a presence is ever blocked, even if a clock goes back.
func (p *plan) endBlock(u *record.User) {
	if u.Blocked {
		next := *u
		forgetPast(&next, p.c.now)
		p.Put(record.UserKey(u.ID), &next)
	}
}

// forgetPast removes from a user's record what time has ended: a block, and the name of a record
// that is swept by now. No write is made for that alone.
func forgetPast(r *record.User, now int64) {
	if r.Blocked && !r.BlockedAt(now) {
		r.Blocked, r.BlockedUntil, r.BlockReason = false, 0, ""
	}
	if now-r.Created >= 3*oneDay { // it is swept within two days and an hour
		r.Creation = ""
	}
}
