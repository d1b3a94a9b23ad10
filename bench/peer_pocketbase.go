package main

import (
	"fmt"
	"net/http"

	"github.com/pocketbase/dbx"
	"github.com/pocketbase/pocketbase/apis"
	"github.com/pocketbase/pocketbase/core"
	_ "github.com/pocketbase/pocketbase/migrations" // its own collections
	"golang.org/x/crypto/bcrypt"
	_ "modernc.org/sqlite" // its own driver
)

// pocketBase is PocketBase as a library, with its collection of users.
type pocketBase struct {
	app   core.App
	hash  string // of the password; hashing would take most of a creation's time
	ids   []string
	texts []string // tokens of the first of them
}

// openPocketBase makes one with n users. With FULL each commit is synced. With NORMAL, the default,
// a crash may lose the last commits.
func openPocketBase(b *bench, synchronous string, n int) (_ *pocketBase, err error) {
	app := core.NewBaseApp(core.BaseAppConfig{
		DataDir: b.file("pocketbase"),
		DBConnect: func(path string) (*dbx.DB, error) { // its own settings, except synchronous
			return dbx.Open("sqlite", path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=journal_size_limit(200000000)"+
				"&_pragma=synchronous("+synchronous+")&_pragma=foreign_keys(ON)&_pragma=temp_store(MEMORY)&_pragma=cache_size(-32000)")
		},
	})
	p := &pocketBase{app: app}
	hash, err := bcrypt.GenerateFromPassword([]byte("a password of some length"), bcrypt.DefaultCost)
	if err := first(err, app.Bootstrap()); err != nil {
		return nil, err
	}
	p.hash = string(hash)
	if err := app.RunAllMigrations(); err != nil {
		return nil, err
	}
	for len(p.ids) < n {
		err := app.RunInTransaction(func(tx core.App) error {
			for range min(1000, n-len(p.ids)) {
				r, err := p.create(tx, email(len(p.ids)))
				if err != nil {
					return err
				}
				p.ids = append(p.ids, r.Id)
				if len(p.texts) < remembered {
					text, err := r.NewAuthToken()
					if err != nil {
						return err
					}
					p.texts = append(p.texts, text)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *pocketBase) create(app core.App, address string) (*core.Record, error) {
	users, err := app.FindCachedCollectionByNameOrId("users")
	if err != nil {
		return nil, err
	}
	r := core.NewRecord(users)
	r.SetEmail(address)
	r.SetVerified(true)
	r.Set("name", "Somebody")
	r.RefreshTokenKey()
	r.SetRaw("password", &core.PasswordFieldValue{Hash: p.hash})
	return r, app.Save(r)
}

// reads returns its lookups.
func (p *pocketBase) reads() sides {
	byToken := side{name: "PocketBase by token", do: func(i uint64) error {
		_, err := p.app.FindAuthRecordByToken(p.texts[i%uint64(len(p.texts))], core.TokenTypeAuth)
		return err
	}}
	n := uint64(len(p.ids))
	return sides{
		"Authenticate/first": {byToken},
		"Authenticate/again": {byToken},
		"User/id": {{name: "PocketBase", do: func(i uint64) error {
			_, err := p.app.FindRecordById("users", p.ids[i*7919%n])
			return err
		}}},
		"User/locator": {{name: "PocketBase", do: func(i uint64) error {
			_, err := p.app.FindAuthRecordByEmail("users", email(int(i*7919%n)))
			return err
		}}},
	}
}

func (p *pocketBase) creates(name string) sides {
	return sides{"User/create": {{name: name, do: func(uint64) error {
		_, err := p.create(p.app, fmt.Sprintf("new%012x@example.com", fresh()))
		return err
	}}}}
}

// handler returns its HTTP API.
func (p *pocketBase) handler() (http.Handler, error) {
	router, err := apis.NewRouter(p.app)
	if err != nil {
		return nil, err
	}
	return router.BuildMux()
}

func (p *pocketBase) close() error { return p.app.ResetBootstrapState() }
