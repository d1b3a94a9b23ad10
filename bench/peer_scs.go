package main

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/alexedwards/scs/v2"
	"go.etcd.io/bbolt"
)

// sessions loads the session of a token, as the middleware of scs does for each request. Deleting
// the session revokes the token.
func sessions(b *bench) (_ sides, stop func() error, err error) {
	db, err := openBare(b.file("sessions"))
	if err != nil {
		return nil, nil, err
	}
	m := scs.New()
	m.Store, m.Lifetime = boltSessions{db}, 24*time.Hour
	texts := make([]string, remembered)
	db.NoSync = true
	for i := range texts {
		ctx, err := m.Load(context.Background(), "")
		if err != nil {
			return nil, nil, err
		}
		m.Put(ctx, "user", string(userID(i)))
		if texts[i], _, err = m.Commit(ctx); err != nil {
			return nil, nil, err
		}
	}
	db.NoSync = false
	return sides{"Authenticate/again": {{name: "scs over bbolt", do: func(i uint64) error {
		ctx, err := m.Load(context.Background(), texts[i%remembered])
		if err != nil {
			return err
		}
		if m.GetString(ctx, "user") == "" {
			return errAbsent
		}
		return nil
	}}}}, db.Close, nil
}

// boltSessions is a store for scs over bbolt: an expiry and then the session. It is written like
// the ones that scs lists, of which none has a version that a module could require.
type boltSessions struct{ db *bbolt.DB }

func (s boltSessions) Find(token string) (session []byte, found bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		value := tx.Bucket(recordsBucket).Get([]byte(token))
		if len(value) < 8 || int64(binary.BigEndian.Uint64(value)) < time.Now().UnixNano() {
			return nil
		}
		session, found = append(session, value[8:]...), true
		return nil
	})
	return session, found, err
}

func (s boltSessions) Commit(token string, session []byte, expiry time.Time) error {
	value := append(binary.BigEndian.AppendUint64(nil, uint64(expiry.UnixNano())), session...)
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(recordsBucket).Put([]byte(token), value) })
}

func (s boltSessions) Delete(string) error { return errors.ErrUnsupported }
