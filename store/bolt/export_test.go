package bolt

import "github.com/denizenhq/denizen/store"

// Seal is what the store writes for a value.
func Seal(key []byte, version store.Seq, value []byte) []byte { return seal(nil, key, version, value) }
