package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/ops"
)

// done is what a writing command says that it did.
type done struct {
	Done      string            `json:"done"`
	User      denizen.UserID    `json:"user,omitempty"`
	Tokens    []denizen.TokenID `json:"tokens,omitempty"`
	Count     *int              `json:"count,omitempty"`
	AccessKey string            `json:"accessKey,omitempty"`
	Secret    string            `json:"secret,omitempty"`
	Signing   string            `json:"signingKey,omitempty"`
	Until     time.Time         `json:"until,omitzero"`
	RootKey   string            `json:"rootKey,omitempty"`
	WasKey    string            `json:"rootKeyBefore,omitempty"`
}

func (s *session) did(d done, format string, args ...any) error {
	return s.print(d, func(line func(string, ...any)) { line(format, args...) })
}

var revokeCommand = &command{
	name: "revoke", args: "[ID|LOCATOR|- [TOKEN...]]", short: "ends tokens",
	max: 1 + denizen.MaxList,
	long: `
Ends tokens of a user, all in one commit or none, or with -all all of a user. With -access-key it
ends all that were issued with an access key, one commit for each user. They are refused from then
on, over a database by other processes within their MaxRevocationDelay.`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		everything := f.Bool("all", false, "all tokens of the user")
		key := f.String("access-key", "", "all tokens of all users that were issued with an access `KEY`")
		return func(ctx context.Context, args []string) error {
			switch {
			case *key != "" && (len(args) > 0 || *everything):
				return usageError("-access-key stands alone")
			case *key != "":
				if err := s.open(ctx); err != nil {
					return err
				}
				defer s.progress(s.reading)()
				n, err := s.dir.RevokeTokensIssuedBy(ctx, s.by, *key)
				if err != nil {
					s.note("%d ended so far", n)
					return err
				}
				return s.did(done{Done: "revoked", AccessKey: *key, Count: &n}, "ended %d tokens that were issued with %s", n, *key)
			case len(args) == 0:
				return usageError("whose tokens?")
			case *everything != (len(args) == 1):
				return usageError("name the tokens, or give -all")
			}
			id, err := s.user(ctx, args[0])
			if err != nil {
				return err
			}
			if *everything {
				if err := s.dir.RevokeAllTokens(ctx, s.by, id); err != nil {
					return err
				}
				return s.did(done{Done: "revoked", User: id}, "ended all tokens of %s", id)
			}
			tokens := make([]denizen.TokenID, len(args)-1)
			for i, arg := range args[1:] {
				tokens[i] = denizen.TokenID(arg)
			}
			if err := s.dir.RevokeTokens(ctx, s.by, id, tokens...); err != nil {
				return err
			}
			return s.did(done{Done: "revoked", User: id, Tokens: tokens}, "ended %d tokens of %s", len(tokens), id)
		}
	},
}

var blockCommand = &command{
	name: "block", args: "ID|LOCATOR|-", short: "blocks a user, and ends all its tokens and its presence",
	min: 1, max: 1,
	long: `
Blocks a user, and ends all its tokens and its presence, in one commit. The reason is for operators
alone. Without an end the block lasts until denizen unblock.`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		reason := f.String("reason", "", "why: a `TEXT` for operators")
		lasts := f.Duration("for", 0, "how long: a `TIME` such as 24h")
		end := f.String("until", "", "until when: a `TIME` such as 2030-01-31T12:00:00Z")
		return func(ctx context.Context, args []string) error {
			b := denizen.Block{Reason: *reason}
			switch {
			case *lasts != 0 && *end != "" || *lasts < 0:
				return usageError("give -for a time above 0, or -until one, and not both")
			case *lasts > 0:
				b.Until = time.Now().Add(*lasts).Truncate(time.Millisecond)
			case *end != "":
				var err error
				if b.Until, err = time.Parse(time.RFC3339, *end); err != nil {
					return usageError("-until must be a time such as 2030-01-31T12:00:00Z")
				}
			}
			id, err := s.user(ctx, args[0])
			if err != nil {
				return err
			}
			if _, err := s.dir.BlockUser(ctx, s.by, id, b); err != nil {
				return err
			}
			return s.did(done{Done: "blocked", User: id, Until: b.Until.UTC()}, "blocked %s%s; its tokens and its presence ended", id, until(b.Until))
		}
	},
}

var unblockCommand = &command{
	name: "unblock", args: "ID|LOCATOR|-", short: "ends a block",
	min: 1, max: 1,
	long: `
Ends a block. The tokens that the block ended do not come back.`,
	flags: func(_ *flag.FlagSet, s *session) func(context.Context, []string) error {
		return func(ctx context.Context, args []string) error {
			id, err := s.user(ctx, args[0])
			if err != nil {
				return err
			}
			if _, err := s.dir.UnblockUser(ctx, s.by, id); err != nil {
				return err
			}
			return s.did(done{Done: "unblocked", User: id}, "unblocked %s", id)
		}
	},
}

var eraseCommand = &command{
	name: "erase", args: "ID|LOCATOR|-", short: "removes all that is stored of a person",
	min: 1, max: 1,
	long: `
Removes a person in one commit, and prints the receipt, as JSON. Keep it: whoever restores a backup
from before has to erase the person again, by denizen restore -erase. There is no way back, so it
needs -yes.`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		yes := f.Bool("yes", false, "really")
		receipts := f.String("receipts", "", "`FILE` that the receipt is added to")
		kept := f.Duration("feed-max-age", 7*24*time.Hour, "how long the service keeps events, as a `TIME`, for the receipt")
		quarantine := f.Duration("quarantine", 0, "Options.Quarantine of the service, as a `TIME`: how long the addresses and numbers rest")
		return func(ctx context.Context, args []string) (err error) {
			if !*yes {
				return usageError("there is no way back: give -yes if you mean it")
			}
			keep := func([]byte) error { return nil }
			if *receipts != "" {
				// Before the person is erased, so that the receipt finds its place.
				file, bad := os.OpenFile(*receipts, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
				if bad != nil {
					return bad
				}
				defer func() { err = errors.Join(err, file.Close()) }()
				info, bad := file.Stat()
				if bad != nil {
					return bad
				}
				torn := false
				if info.Mode().IsRegular() {
					if torn, bad = endsWithinLine(*receipts, info.Size()); bad != nil {
						return bad
					}
				}
				keep = func(receipt []byte) error {
					if torn { // by a crash: the next receipt is to be whole all the same
						receipt = append([]byte{'\n'}, receipt...)
					}
					if _, err := file.Write(receipt); err != nil || !info.Mode().IsRegular() {
						return err
					}
					return errors.Join(file.Sync(), syncDir(filepath.Dir(*receipts)))
				}
			}
			s.quarantine = *quarantine
			id, err := s.user(ctx, args[0])
			if err != nil {
				return err
			}
			receipt, err := s.dir.EraseUser(ctx, s.by, id)
			if err != nil {
				return err
			}
			receipt.EventsUntil = receipt.ErasedAt.Add(*kept + time.Minute)
			b, err := json.Marshal(receipt)
			if err != nil {
				return err
			}
			b = append(b, '\n')
			// It is kept before it is shown: a write to a pipe that nobody reads ends the process.
			err = keep(b)
			_, printed := s.stdout.Write(cleanJSON(b))
			return errors.Join(err, printed)
		}
	},
}

// endsWithinLine reports whether the last line of a file of a size does not end.
func endsWithinLine(path string, size int64) (bool, error) {
	if size == 0 {
		return false, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var last [1]byte
	_, err = f.ReadAt(last[:], size-1)
	return last[0] != '\n', err
}

var rekeyCommand = &command{
	name: "rekey", short: "seals all secrets under the first root key",
	long: `
Seals every secret of the directory anew, under the first of the root keys, in one commit. Give the
new key first and then the old one. The word none stands for no key. First restart each process of
the service with both; see OPERATING.md.`,
	flags: func(_ *flag.FlagSet, s *session) func(context.Context, []string) error {
		return func(ctx context.Context, _ []string) error {
			keys, err := s.rootKeys()
			if err != nil {
				return err
			}
			if len(keys) == 0 {
				return usageError("give the root keys, the new one first, by DENIZEN_ROOT_KEYS or -root-keys")
			}
			if err := s.open(ctx); err != nil {
				return err
			}
			before, err := s.dir.Stats(ctx, s.by)
			if err != nil {
				return err
			}
			if err := s.dir.Rekey(ctx, s.by); err != nil {
				return err
			}
			after, err := s.dir.Stats(ctx, s.by)
			if err != nil {
				return err
			}
			d := done{Done: "rekeyed", RootKey: after.RootKey, WasKey: before.RootKey}
			if before.RootKey == after.RootKey {
				return s.did(d, "all was under %s already", after.RootKey)
			}
			return s.did(d, "all is under %s now, and was under %s", after.RootKey, before.RootKey)
		}
	},
}

var keysCommand = &command{
	name: "keys", args: "[list|make|rotate|drop]", short: "access keys and signing keys",
	max: 1,
	long: `
list, which is the default, prints the access keys of the application and the keys that sign tokens,
without their secrets.

make makes an access key and prints its secret, for the only time.

rotate makes a new signing key. It signs once -notice has passed, so that services that verify
tokens offline can fetch it before. The key before it stays published for as long as a token needs.

drop removes a key at once. Whoever has an access key of that name is refused, and -tokens ends the
tokens that were issued with it. Services that verify offline refuse what a dropped signing key
signed once they fetch the keys again. It needs -yes.`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		notice := f.Duration("notice", time.Hour, "with rotate: how long the key is only announced, as a `TIME`")
		access := f.String("access-key", "", "with drop: the access `KEY`")
		signing := f.String("signing-key", "", "with drop: the `ID` of the signing key")
		tokens := f.Bool("tokens", false, "with drop: end the tokens that were issued with the access key")
		yes := f.Bool("yes", false, "with drop: really")
		return func(ctx context.Context, args []string) error {
			verb := "list"
			if len(args) > 0 {
				verb = args[0]
			}
			switch verb {
			case "list":
				_, err := look(ctx, s, ops.Query{What: ops.Keys}, key, func(*ops.Key) bool { return false })
				return err
			case "make", "rotate", "drop":
			default:
				return usageError("keys can be listed, made, rotated and dropped")
			}
			if verb == "drop" {
				switch {
				case (*access == "") == (*signing == ""):
					return usageError("give -access-key or -signing-key")
				case *tokens && *access == "":
					return usageError("-tokens goes with -access-key")
				case !*yes:
					return usageError("whoever uses the key is refused at once: give -yes if you mean it")
				}
			}
			if err := s.open(ctx); err != nil {
				return err
			}
			switch verb {
			case "make":
				k, err := s.dir.CreateAccessKey(ctx, s.by)
				if err != nil {
					return err
				}
				return s.did(done{Done: "made", AccessKey: k.Key, Secret: k.Secret},
					"access key  %s\nsecret      %s\nIt is not shown again.", k.Key, k.Secret)
			case "rotate":
				if err := s.dir.RotateSigningKey(ctx, s.by, *notice); err != nil {
					return err
				}
				return s.did(done{Done: "rotated"}, "made a signing key, which signs in %s", notice.String())
			}
			if *signing != "" {
				if err := s.dir.DropSigningKey(ctx, s.by, *signing); err != nil {
					return err
				}
				return s.did(done{Done: "dropped", Signing: *signing}, "dropped the signing key %s", *signing)
			}
			if err := s.dir.DeleteAccessKey(ctx, s.by, *access); err != nil {
				return err
			}
			d := done{Done: "dropped", AccessKey: *access}
			if !*tokens {
				return s.did(d, "dropped the access key %s; the tokens that were issued with it go on: denizen revoke -access-key ends them", *access)
			}
			defer s.progress(s.reading)()
			n, err := s.dir.RevokeTokensIssuedBy(ctx, s.by, *access)
			if err != nil {
				s.note("the access key is dropped, and %d tokens are ended so far", n)
				return err
			}
			d.Count = &n
			return s.did(d, "dropped the access key %s, and ended %d tokens", *access, n)
		}
	},
}

func key(k *ops.Key, line func(string, ...any)) {
	if k.Kind == ops.Access {
		used := when(k.LastUsedAt)
		if k.LastAction != "" {
			used += " (" + k.LastAction + ")"
		}
		line("access   %-36s  made %s, last used %s", k.ID, when(k.CreatedAt), used)
		return
	}
	more := ""
	switch {
	case k.State == "announced":
		more = ", signs at " + when(k.SignsAt)
	case !k.GoneAt.IsZero():
		more = ", gone at " + when(k.GoneAt)
	}
	line("signing  %-36s  made %s, %s%s", k.ID, when(k.CreatedAt), k.State, more)
}
