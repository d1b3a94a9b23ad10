package denizen

import (
	"context"
	"errors"
)

// Operation is a call of a directory, as Options.Trace is told of it. Nothing that was given to the
// call is in it: no token, secret, locator or name.
type Operation struct {
	// Name is the method, such as "CreateUser", or what Error.Op has for a call by a package beside
	// this one. There are some hundred names.
	Name string
	// By is who calls. Where the call is to find that out it is .anonymous.
	By Principal
	// Lasts says that the call ends only with its context or an error: Follow, Notify and
	// WatchPresence, and Post of package webhook.
	Lasts bool
}

// traced is an operation that has begun.
type traced struct {
	op   string
	done func(error) // nil: nobody wants to know
}

// trace begins an operation. Each exported method with a context defers the end of it:
//
//	defer d.trace(&ctx, "User", &by).end(&err)
//
// It is small enough to be inlined, so that a directory without Options.Trace pays a comparison.
func (d *Directory) trace(ctx *context.Context, op string, by *Principal) traced {
	if d.options.Trace == nil {
		return traced{op: op}
	}
	return d.tell(ctx, op, by)
}

// tell tells Options.Trace of an operation that begins.
func (d *Directory) tell(ctx *context.Context, op string, by *Principal) traced {
	o := Operation{Name: op, By: *by}
	switch op {
	case "Follow", "Notify", "Post", "WatchPresence":
		o.Lasts = true
	}
	t := traced{op: op}
	*ctx, t.done = d.options.Trace(*ctx, o)
	return t
}

// trace is Directory.trace for a principal in disguise.
func (b behindDoor) trace(ctx *context.Context, op string, by any) traced {
	p := by.(Principal)
	return b.d.trace(ctx, op, &p)
}

// end makes an error the *Error of the operation, and tells of its end.
func (t traced) end(err *error) {
	wrapOp(t.op, err)
	if t.done == nil {
		return
	}
	if p := recover(); p != nil {
		t.done(errPanicked)
		panic(p)
	}
	t.done(*err)
}

var errPanicked = errors.New("denizen: panicked")
