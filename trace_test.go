package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"iter"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

// told is what Options.Trace was told of an operation.
type told struct {
	denizen.Operation
	ended int
	err   error
}

// tracer remembers what it is told. It marks the contexts that operations go on with.
type tracer struct {
	mu  sync.Mutex
	all []*told
}

type traceMark struct{}

func (tr *tracer) trace(ctx context.Context, op denizen.Operation) (context.Context, func(error)) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	of := &told{Operation: op}
	tr.all = append(tr.all, of)
	return context.WithValue(ctx, traceMark{}, op.Name), func(err error) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		of.ended++
		of.err = err
	}
}

// take returns what it was told since the last call.
func (tr *tracer) take() []*told {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	all := tr.all
	tr.all = nil
	return all
}

// untraced are the methods of a directory that Options.Trace is not told of, and why.
var untraced = map[string]string{
	"ID":            "asks nothing",
	"ApplicationID": "asks nothing",
	"Close":         "ends all operations and has no context",
	"InTx":          "asks nothing; what its directory does is told",
}

// proving are the methods that find out who calls.
var proving = map[string]func(ctx context.Context, w *world) error{
	"Authenticate": func(ctx context.Context, w *world) error {
		_, err := w.Authenticate(ctx, w.signed)
		return err
	},
	"AuthenticateKey": func(ctx context.Context, w *world) error {
		_, err := w.AuthenticateKey(ctx, w.key.Key, w.key.Secret)
		return err
	},
	"AuthenticateSigned": func(ctx context.Context, w *world) error {
		_, err := w.AuthenticateSigned(ctx, denizen.SignedRequest{AccessKey: w.key.Key})
		return err
	},
	"PublicKeys": func(ctx context.Context, w *world) error {
		_, err := w.PublicKeys(ctx)
		return err
	},
}

func TestTrace_IsToldOfEveryMethod(t *testing.T) {
	found := map[string]bool{}
	tr := &tracer{}
	toldOf := func(name string, by denizen.Principal) *told {
		all := tr.take()
		require.NotEmpty(t, all, "nobody is told of %s", name)
		require.Equal(t, denizen.Operation{
			Name: name, By: by, Lasts: name == "Follow" || name == "Notify" || name == "WatchPresence",
		}, all[0].Operation)
		for _, op := range all {
			require.Equal(t, 1, op.ended, "%s in %s", op.Name, name)
		}
		found[name] = true
		return all[0]
	}
	for _, m := range methods {
		t.Run(m.name, func(t *testing.T) {
			w := newWorld(t, true, denizen.Options{Trace: tr.trace}, nil)
			tr.take()
			denied := m.call(t.Context(), w, denizen.Principal{}, w.alice)
			require.Same(t, denied, toldOf(m.name, denizen.Principal{}).err)
			by := denizen.System()
			if m.verdict(t, asSystem) != yes {
				by = w.byAlice
			}
			require.NoError(t, m.call(t.Context(), w, by, w.alice))
			switch err := toldOf(m.name, by).err; m.name {
			case "Backup", "Compact": // of what is in no file
				require.ErrorIs(t, err, denizen.ErrInvalid)
			case "DeleteConsumer": // of none
				require.ErrorIs(t, err, denizen.ErrNotFound)
			case "Notify": // whose context ends
				require.ErrorIs(t, err, context.Canceled)
			default:
				require.NoError(t, err)
			}
		})
	}
	w := newWorld(t, true, denizen.Options{Trace: tr.trace}, nil)
	for name, call := range proving {
		tr.take()
		err := call(t.Context(), w)
		require.Equal(t, err, toldOf(name, denizen.Principal{}).err, "who calls is not known before")
	}
	directory := reflect.TypeFor[*denizen.Directory]()
	for m := range directory.Methods() {
		_, exempt := untraced[m.Name]
		require.NotEqual(t, exempt, found[m.Name], m.Name)
	}
}

// unmeasured are what packages beside the root ask of a directory, and Options.Trace is not told of.
var unmeasured = map[string]string{
	"GiveBack":   "cleans up after a start that failed",
	"Forget":     "cleans up after a start",
	"IssueToken": "is Directory.IssueToken",
}

func TestTrace_IsToldWhatPackagesBesideTheRootAsk(t *testing.T) {
	_, files := parsed(t, ".")
	found := 0
	for _, f := range files {
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || receiver(fn) != "behindDoor" || !fn.Name.IsExported() ||
				len(fn.Type.Params.List) == 0 || source(fn.Type.Params.List[0].Type) != "context.Context" {
				continue
			}
			found++
			_, exempt := unmeasured[fn.Name.Name]
			deferred, ok := fn.Body.List[0].(*ast.DeferStmt)
			require.True(t, ok, fn.Name.Name)
			end, ok := deferred.Call.Fun.(*ast.SelectorExpr)
			require.NotEqual(t, exempt, ok && end.Sel.Name == "end", fn.Name.Name)
			if !exempt {
				begin := end.X.(*ast.CallExpr)
				require.Equal(t, "b.trace", source(begin.Fun), fn.Name.Name)
				require.Equal(t, "&ctx", source(begin.Args[0]), fn.Name.Name)
				_, err := strconv.Unquote(source(begin.Args[1]))
				require.NoError(t, err, "%s has no constant for a name", fn.Name.Name)
			}
		}
	}
	require.Greater(t, found, 10)
}

// marked is a store that notes for which operations it is asked.
type marked struct {
	store.Store
	mu    sync.Mutex
	asked map[any]int
}

func (s *marked) note(ctx context.Context) {
	s.mu.Lock()
	s.asked[ctx.Value(traceMark{})]++
	s.mu.Unlock()
}

func (s *marked) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	s.note(ctx)
	return s.Store.Get(ctx, keys...)
}

func (s *marked) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	s.note(ctx)
	return s.Store.Commit(ctx, b)
}

func TestTrace_AnOperationGoesOnWithTheContextItWasGiven(t *testing.T) {
	s, tr := &marked{Store: memory.New(), asked: map[any]int{}}, &tracer{}
	d := newOver(t, s, denizen.Options{Trace: tr.trace})
	newUser(t, d, "alice-user")
	_, err := d.User(t.Context(), sys, "alice-user")
	require.NoError(t, err)
	for range d.WatchPresence(t.Context(), sys, []denizen.UserID{"alice-user"}) {
		break
	}
	for _, name := range []string{"CreateUser", "User", "WatchPresence"} {
		s.mu.Lock()
		asked := s.asked[name]
		s.mu.Unlock()
		require.Positive(t, asked, name)
	}
	over := inTx(t, d, s.Store)
	tr.take()
	_, err = over.User(t.Context(), sys, "alice-user")
	require.NoError(t, err)
	require.Equal(t, "User", tr.take()[0].Name, "in a transaction too")
}

func TestTrace_AnIterationIsOneOperationEachTime(t *testing.T) {
	tr := &tracer{}
	d := newMemory(t, denizen.Options{Trace: tr.trace})
	newUser(t, d, "alice-user")
	events := d.Events(t.Context(), sys, "")
	tr.take()
	for range 2 {
		next, stop := iter.Pull2(events)
		_, err, _ := next()
		require.NoError(t, err)
		all := tr.take()
		require.Len(t, all, 1)
		require.Zero(t, all[0].ended, "it goes on")
		stop()
		require.Equal(t, 1, all[0].ended, "its reader has had enough")
		require.NoError(t, all[0].err)
	}
}

func TestTrace_APanicEndsTheOperationAndGoesOn(t *testing.T) {
	tr := &tracer{}
	d := newMemory(t, denizen.Options{
		Trace:  tr.trace,
		MaySee: func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) { panic("host") },
	})
	newUser(t, d, "alice-user")
	by, err := d.ActAs(t.Context(), sys, "alice-user")
	require.NoError(t, err)
	tr.take()
	require.PanicsWithValue(t, "host", func() { _, _ = d.User(t.Context(), by, "bob-user") })
	of := tr.take()[0]
	require.Equal(t, 1, of.ended)
	require.Error(t, of.err)
	_, ours := errors.AsType[*denizen.Error](of.err)
	require.False(t, ours)
}

func TestTrace_ATracerNeedNotBeToldOfTheEnd(t *testing.T) {
	d := newMemory(t, denizen.Options{Trace: func(ctx context.Context, _ denizen.Operation) (context.Context, func(error)) {
		return ctx, nil
	}})
	newUser(t, d, "alice-user")
	_, err := d.User(t.Context(), sys, "bob-of-the-world")
	requireRefused(t, err, "User", denizen.ErrNotFound, "user")
}

func TestTrace_IsToldNothingThatWasPassedToAnOperation(t *testing.T) {
	tr := &tracer{}
	w := newWorld(t, true, denizen.Options{Trace: tr.trace}, nil)
	refusals(t.Context(), w)
	for _, of := range tr.take() {
		said := fmt.Sprintf("%#v %+v %v", of.Operation, of.Operation, of.err)
		for _, secret := range []string{"anary", canarySecret, "example.org", w.signed, w.key.Secret, tokenBegins} {
			require.NotContains(t, strings.ReplaceAll(said, "canary-key", ""), secret, of.Name)
		}
	}
}

func TestTrace_CostsNoMemoryWhereItIsNotSet(t *testing.T) {
	d, ctx := newMemory(t, denizen.Options{HeartbeatInterval: time.Hour}), context.Background()
	newUser(t, d, "alice-user")
	token := newToken(t, d, "alice-user", denizen.TokenOptions{}).Signed
	by, err := d.Authenticate(ctx, token)
	require.NoError(t, err)
	here := denizen.Online(24 * time.Hour).Then(denizen.Offline())
	require.NoError(t, d.SetPresence(ctx, by, "alice-user", here))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = d.Authenticate(ctx, token)
		_ = d.SetPresence(ctx, by, "alice-user", here)
		_, _ = d.Presence(ctx, by, "alice-user")
	}))
}

// What a directory pays for Options.Trace where it is not set, and where it does nothing:
//
//	go test -run '^$' -bench Trace .
func BenchmarkTrace(b *testing.B) {
	nothing := func(ctx context.Context, _ denizen.Operation) (context.Context, func(error)) {
		return ctx, func(error) {}
	}
	for _, hook := range []struct {
		name    string
		options denizen.Options
	}{{"unset", denizen.Options{}}, {"set", denizen.Options{Trace: nothing}}} {
		d, ctx := newMemory(b, hook.options), context.Background()
		newUser(b, d, "alice-user")
		token := newToken(b, d, "alice-user", denizen.TokenOptions{}).Signed
		alice, err := d.Authenticate(ctx, token)
		require.NoError(b, err)
		here := denizen.Online(24 * time.Hour).Then(denizen.Offline())
		require.NoError(b, d.SetPresence(ctx, alice, "alice-user", here))
		for _, op := range []struct {
			name string
			call func() error
		}{
			{"Authenticate", func() error {
				_, err := d.Authenticate(ctx, token)
				return err
			}},
			{"Heartbeat", func() error { return d.SetPresence(ctx, alice, "alice-user", here) }},
			{"Presence", func() error {
				_, err := d.Presence(ctx, alice, "alice-user")
				return err
			}},
			{"User", func() error {
				_, err := d.User(ctx, alice, "alice-user")
				return err
			}},
		} {
			b.Run(op.name+"/"+hook.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := op.call(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
