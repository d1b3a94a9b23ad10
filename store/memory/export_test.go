package memory

import (
	"slices"

	"github.com/denizenhq/denizen/store"
)

// Damage marks the record under key as damaged.
func (s *Store) Damage(key store.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, found := s.records.Get(key); found {
		s.records.Set(key, value{version: v.version, damaged: true})
	}
}

// DamageEvent marks the event at seq as damaged.
func (s *Store) DamageEvent(seq store.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, found := slices.BinarySearchFunc(s.events, seq, bySeq); found {
		s.events[i] = store.Change{Seq: seq, Damaged: true}
	}
}
