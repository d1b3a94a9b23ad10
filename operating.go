package denizen

import (
	"context"
	"slices"

	"github.com/denizenhq/denizen/internal/record"
)

// Rekey seals every secret of the directory anew, under the first of Options.RootKeys, in one
// commit. With [NoRootKey] as the first it stores them in the clear. If all are under that key
// already it changes nothing.
//
// The directory may be in use meanwhile, by other processes too. Those that do not have the key get
// [ErrUnavailable] from then on, with Field "RootKeys", wherever a secret is needed: for access
// keys, and to sign tokens. So first give the new key to all of them, beside the old one. Once
// Rekey has returned, no secret in the store needs the old one. Backups still do.
//
// If a secret cannot be read it returns [ErrCorrupt]: see [Directory.RotateSigningKey] and
// [Directory.DeleteAccessKey]. The feed has an [EventDirectoryRekeyed]. Only .system may.
func (d *Directory) Rekey(ctx context.Context, by Principal) (err error) {
	defer d.trace(&ctx, "Rekey", &by).end(&err)
	c, err := d.enter(ctx, opOperate, by, noTarget)
	if err != nil {
		return err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		entries, err := p.read(record.DirectoryKey, record.SigningKeysKey, record.AccessKeysKey)
		if err != nil {
			return err
		}
		own, whole := entries[0].Value().(*record.Directory)
		ring, signs := entries[1].Value().(*record.SigningKeys)
		if !whole || !signs {
			return record.ErrCorrupt
		}
		directory, signing := *own, record.SigningKeys{Keys: slices.Clone(ring.Keys)}
		access := record.AccessKeys{}
		keys, known := entries[2].Value().(*record.AccessKeys)
		if known {
			access = record.AccessKeys{Keys: slices.Clone(keys.Keys), Deleted: keys.Deleted}
		}
		r := resealing{d: d}
		eachSecret(&directory, r.reseal)
		eachSecret(&signing, r.reseal)
		eachSecret(&access, r.reseal)
		switch {
		case r.err != nil:
			return r.err
		case !r.changed:
			return errUnchanged
		}
		p.Put(record.DirectoryKey, &directory)
		p.Put(record.SigningKeysKey, &signing)
		if known {
			p.Put(record.AccessKeysKey, &access)
		}
		p.emit(EventDirectoryRekeyed, nil, d.rootKeys[0].id)
		return nil
	})
	return unchanged(err)
}

// resealing brings secrets under the first root key.
type resealing struct {
	d       *Directory
	changed bool
	err     error // the first one
}

func (r *resealing) reseal(purpose string, text *string) {
	first := r.d.rootKeys[0]
	secret, _, err := r.d.unseal(purpose, *text)
	if err != nil {
		if r.err == nil {
			r.err = err
		}
		return
	}
	if s, _ := parseSealed(*text); s.id != first.id {
		*text, r.changed = r.d.seal(first, purpose, secret), true
	}
}
