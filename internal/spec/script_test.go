package spec_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/clock"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/postgres"
)

// A script is operations by principals, with the directory closed and opened again between
// any two of them. It does the same to a model and to a directory over each kind of store,
// step by step, and every result must be the same.
//
// DENIZEN_SEED chooses other scripts than the usual ones, and DENIZEN_SCRIPTS multiplies
// how many there are. A script that fails is made as short as it goes and printed; put
// into a file that DENIZEN_SCRIPT names, it is run again.
type script struct {
	sleeps bool // time passes by sleeping, so that whatever happens in the background does
	steps  []step
}

// step is one operation with the places of its arguments in the pools: of who does it, whom
// it is about, and of what else there is.
type step struct {
	name    string
	by, who int
	args    [3]int
}

func (s step) String() string {
	return fmt.Sprintf("%-22s by=%-2d who=%-2d args=%d,%d,%d", s.name, s.by, s.who, s.args[0], s.args[1], s.args[2])
}

func (s script) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sleeps=%t\n", s.sleeps)
	for _, step := range s.steps {
		fmt.Fprintln(&b, step)
	}
	return b.String()
}

// parseScript reads what String prints. What follows a # is ignored.
func parseScript(t testing.TB, text string) (s script) {
	t.Helper()
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case strings.HasPrefix(fields[0], "sleeps="):
			s.sleeps = fields[0] == "sleeps=true"
		default:
			step := step{name: fields[0]}
			_, err := fmt.Sscanf(strings.Join(fields[1:], " "), "by=%d who=%d args=%d,%d,%d",
				&step.by, &step.who, &step.args[0], &step.args[1], &step.args[2])
			require.NoError(t, err, "%q", line)
			s.steps = append(s.steps, step)
		}
	}
	return s
}

// The pools. They are small, so that things collide.

var ids = []denizen.UserID{"alice-01", "alice-01-bob", "#carol$1", "Dave_2000", "nobody-9"}

type spelling struct {
	canonical string
	valid     bool   // by the numbering plans, or the rule of its type
	unique    string // what it is unique by, of a nick
}

// spellings are the locators that are well-formed.
var spellings = map[string]spelling{
	"email:ann@example.org":      {"ann@example.org", true, ""},
	"email:Ann@Example.ORG":      {"ann@example.org", true, ""},
	"email:b.ob@example.com":     {"b.ob@example.com", true, ""},
	"email:B.OB@example.com":     {"b.ob@example.com", true, ""},
	"email:bob@example.com":      {"bob@example.com", true, ""},
	"tele:+16502530000":          {"+16502530000", true, ""},
	"tele:+1 (650) 253-0000":     {"+16502530000", true, ""},
	"tele:+442083661177":         {"+442083661177", true, ""},
	"tele:+44 20-8366.1177":      {"+442083661177", true, ""},
	"tele:+10000000000":          {"+10000000000", false, ""},
	"email:spare.1@example.net":  {"spare.1@example.net", true, ""},
	"email:Spare.2@example.net":  {"spare.2@example.net", true, ""},
	"email:spare.3@example.net":  {"spare.3@example.net", true, ""},
	"email:spare.3@examples.net": {"spare.3@examples.net", true, ""},
	"nick:Bob":                   {"bob", true, "bob"},
	"nick:bob":                   {"bob", true, "bob"},
	"nick:b0b":                   {"b0b", true, "bob"},
	"nick:zoe":                   {"zoe", true, "zoe"},
	"nick:ZOE":                   {"zoe", true, "zoe"},
	"nick:ann":                   {"ann", true, "ann"},
	"nick:kim":                   {"kim", true, "kim"},
	"nick:root":                  {"root", false, "root"},
}

// nicks is the registered type of the scripts: names that users take for themselves, two at most.
var nicks = denizen.LocatorRule{
	Type: "nick", Version: 1, Self: true, PerUser: 2, Rest: nickRest,
	Canonical: func(s string) (denizen.LocatorForms, error) {
		if strings.Contains(s, " ") {
			return denizen.LocatorForms{}, errors.New("holds a space")
		}
		s = strings.ToLower(s)
		return denizen.LocatorForms{Canonical: s, Unique: strings.ReplaceAll(s, "0", "o")}, nil
	},
	Check: func(s string) error {
		if s == "root" {
			return errors.New("is reserved")
		}
		return nil
	},
}

const nickRest = 3 * time.Hour

var (
	locators = append(slices.Sorted(maps.Keys(spellings)), "email:ann@localhost", "fax:12345678", "nick:two words", "email:Ann <ann@example.org>")

	scriptNames = []string{"Ann", "Bob", "Ann", "Zoë", "Bob", "Carol", "", "bell\a", strings.Repeat("n", 129)}

	attributeKeys = []string{"bio", "age", "notes", "mitter.upa.Email", "un,usual"}

	scriptAudiences = []denizen.Audience{"", denizen.ToSelf, denizen.ToPeers, denizen.ToPeers, denizen.ToSystem}

	values = []string{"one", "two", "one", "two", "three", "", "one", "three is longer than a definition may allow", "a\x00b", "\xff"}

	lengths = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, time.Minute, 10 * time.Minute, time.Hour, 3 * time.Hour, 48 * time.Hour}

	// The first two are no ends of a block.
	blockedFor = []time.Duration{0, -time.Second, time.Second, 5 * time.Second, time.Minute, 10 * time.Minute, time.Hour, 3 * time.Hour}

	chains = []denizen.Presence{
		denizen.Online(),
		denizen.Online(5 * time.Second),
		denizen.Online(2 * time.Second).Then(denizen.Away(5 * time.Second)).Then(denizen.Offline()),
		denizen.Away(2 * time.Second).Then(denizen.State("At lunch", 5*time.Second)).Then(denizen.Online(time.Second)),
		denizen.Offline(),
		denizen.Sleeping(time.Hour).Then(denizen.Missing()),
		denizen.State("At lunch", time.Minute),
		denizen.Online(5 * time.Second).Then(denizen.Online(5 * time.Second)),
		{},
		denizen.Online().Then(denizen.Away()),
		denizen.State(""),
		denizen.Online(time.Second / 2),
		denizen.Away(2147483647 * time.Second).Then(denizen.Away(time.Second)),
	}

	aliasTimes = []time.Duration{0, denizen.Forever, 3 * time.Second, denizen.Forever, time.Hour, -time.Second}

	// operators are names of operators, of which the last three are none.
	operators = []string{"ada", "ops/bob@example.org", "!", strings.Repeat("~", 64), strings.Repeat("~", 65), "", "ada l"}

	broughtKeys    = []string{"brought-key-1", "brought-key-2", "brought-key-3", "short"}
	broughtSecrets = []string{"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY=", "c2hvcnQ="}
)

// maySee is the host's word in the scripts.
func maySee(_ context.Context, viewer, subject denizen.UserID, what denizen.Facet) (bool, error) {
	v, s := slices.Index(ids, viewer), slices.Index(ids, subject)
	if v == 1 && s == 0 && what == denizen.FacetPresence {
		return true, errors.New("the host does not know")
	}
	return v >= 0 && s >= 0 && (v+2*s+int(what))%3 != 0, nil
}

// anyOf returns one of a pool. Places beyond it go around.
func anyOf[T any](pool []T, n int) T { return pool[n%len(pool)] }

// subject is what a script drives: a Directory or a model.
type subject[P any] interface {
	AccessKeys(ctx context.Context, by P) ([]denizen.AccessKey, error)
	ActAs(ctx context.Context, by P, user denizen.UserID) (P, error)
	AddLocator(ctx context.Context, by P, user denizen.UserID, n denizen.NewLocator, expected ...denizen.UserVersion) (denizen.Locator, error)
	AllUsers(ctx context.Context, by P) iter.Seq2[denizen.User, error]
	AttributeDef(ctx context.Context, by P, key string) (denizen.AttributeDef, error)
	AttributeDefs(ctx context.Context, by P) ([]denizen.AttributeDef, error)
	Attributes(ctx context.Context, by P, user denizen.UserID, keys []string) ([]denizen.Attribute, error)
	Authenticate(ctx context.Context, signed string) (P, error)
	AuthenticateKey(ctx context.Context, key, secret string) (P, error)
	AuthenticateSigned(ctx context.Context, r denizen.SignedRequest) (P, error)
	CancelUndo(ctx context.Context, by P, user denizen.UserID) error
	BlockUser(ctx context.Context, by P, id denizen.UserID, b denizen.Block, expected ...denizen.UserVersion) (denizen.User, error)
	Events(ctx context.Context, by P, after denizen.Cursor) iter.Seq2[denizen.Event, error]
	ClearAllPresence(ctx context.Context, by P, user denizen.UserID) error
	ClearPresence(ctx context.Context, by P, user denizen.UserID, device string) error
	CountPresent(ctx context.Context, by P) (map[string]int, error)
	CountUsers(ctx context.Context, by P) (int, error)
	CreateAccessKey(ctx context.Context, by P) (denizen.NewAccessKey, error)
	CreateUser(ctx context.Context, by P, n denizen.NewUser) (denizen.User, error)
	Check(ctx context.Context, by P) error
	CheckLocators(ctx context.Context, by P) iter.Seq2[denizen.LocatorChange, error]
	DefineAttribute(ctx context.Context, by P, def denizen.AttributeDef) (denizen.AttributeDef, error)
	DeleteAccessKey(ctx context.Context, by P, key string) error
	DeleteUser(ctx context.Context, by P, id denizen.UserID, expected ...denizen.UserVersion) error
	Devices(ctx context.Context, by P, user denizen.UserID) ([]denizen.UserPresence, error)
	DropAttributeDef(ctx context.Context, by P, key string) error
	DropSigningKey(ctx context.Context, by P, id string) error
	EraseUser(ctx context.Context, by P, id denizen.UserID, expected ...denizen.UserVersion) (denizen.Erasure, error)
	ExtendToken(ctx context.Context, by P, user denizen.UserID, id denizen.TokenID, ttl time.Duration) (denizen.IssuedToken, error)
	Follow(ctx context.Context, by P, after denizen.Cursor) iter.Seq2[denizen.Event, error]
	IssueToken(ctx context.Context, by P, user denizen.UserID, o denizen.TokenOptions) (denizen.IssuedToken, error)
	Locate(ctx context.Context, by P, locators ...string) ([]denizen.UserID, error)
	Locator(ctx context.Context, by P, user denizen.UserID, id denizen.LocatorID) (denizen.Locator, error)
	Locators(ctx context.Context, by P, user denizen.UserID) ([]denizen.Locator, error)
	Logout(ctx context.Context, by P) error
	MergeUsers(ctx context.Context, by P, from, into denizen.UserID, policy denizen.MergePolicy) (denizen.User, error)
	MoveLocator(ctx context.Context, by P, from denizen.UserID, id denizen.LocatorID, to denizen.UserID) (denizen.Locator, error)
	Presence(ctx context.Context, by P, user denizen.UserID) (denizen.UserPresence, error)
	Present(ctx context.Context, by P, q denizen.PresentQuery) (denizen.PresentPage, error)
	Presences(ctx context.Context, by P, users []denizen.UserID) ([]denizen.UserPresence, error)
	Profile(ctx context.Context, by P, user denizen.UserID) (denizen.Profile, error)
	PutAccessKey(ctx context.Context, by P, key, secret string) error
	RecentEvents(ctx context.Context, by P, q denizen.EventQuery) (denizen.EventPage, error)
	RekeyLocators(ctx context.Context, by P) iter.Seq2[denizen.LocatorChange, error]
	RemoveAttribute(ctx context.Context, by P, user denizen.UserID, key string, expected ...denizen.ProfileVersion) error
	RemoveLocator(ctx context.Context, by P, user denizen.UserID, id denizen.LocatorID, expected ...denizen.UserVersion) error
	ReplaceLocator(ctx context.Context, by P, user denizen.UserID, id denizen.LocatorID, n denizen.NewLocator, expected ...denizen.UserVersion) (denizen.Locator, error)
	ResolveUser(ctx context.Context, by P, ref string) (denizen.UserID, error)
	RevealLocator(ctx context.Context, by P, user denizen.UserID, id denizen.LocatorID) (denizen.Locator, error)
	RevokeAllTokens(ctx context.Context, by P, user denizen.UserID) error
	RevokeTokens(ctx context.Context, by P, user denizen.UserID, ids ...denizen.TokenID) error
	RevokeTokensIssuedBy(ctx context.Context, by P, accessKey string) (int, error)
	RotateSigningKey(ctx context.Context, by P, notice time.Duration) error
	SetAttribute(ctx context.Context, by P, user denizen.UserID, a denizen.Attribute, expected ...denizen.ProfileVersion) (denizen.Profile, error)
	SetAttributes(ctx context.Context, by P, user denizen.UserID, attributes []denizen.Attribute, mode denizen.PatchMode, expected ...denizen.ProfileVersion) (denizen.Profile, error)
	SetLocators(ctx context.Context, by P, user denizen.UserID, locators []denizen.NewLocator, expected ...denizen.UserVersion) (denizen.User, error)
	SetPresence(ctx context.Context, by P, user denizen.UserID, p denizen.Presence) error
	SetPresenceHidden(ctx context.Context, by P, user denizen.UserID, hidden bool) error
	SetScreenName(ctx context.Context, by P, id denizen.UserID, screenName string, expected ...denizen.UserVersion) (denizen.User, error)
	SetVerification(ctx context.Context, by P, user denizen.UserID, id denizen.LocatorID, status denizen.VerificationStatus, expected ...denizen.UserVersion) (denizen.Locator, error)
	Tokens(ctx context.Context, by P, user denizen.UserID) ([]denizen.Token, error)
	TrimFeed(ctx context.Context, by P, upTo denizen.Seq) error
	UnblockUser(ctx context.Context, by P, id denizen.UserID, expected ...denizen.UserVersion) (denizen.User, error)
	User(ctx context.Context, by P, id denizen.UserID) (denizen.User, error)
	Users(ctx context.Context, by P, q denizen.UserQuery) (denizen.UserPage, error)
	UsersByID(ctx context.Context, by P, ids []denizen.UserID) ([]denizen.User, error)
	UsersByLocator(ctx context.Context, by P, locators []string) ([]denizen.User, error)
}

// caller is a principal of a Directory or of a model.
type caller interface {
	comparable
	fmt.Stringer
	User() denizen.UserID
	Token() denizen.TokenID
	AccessKey() string
	Operator() string
	IsSystem() bool
	IsAnonymous() bool
	MayParticipate() bool
}

// side is one of the two that a script drives, with what it returned so far. What is random
// or counted has a name here by the order in which it came up: two sides that returned the
// same have the same names.
type side[P caller] struct {
	subject[P]
	clock     *scriptClock
	sys       P
	named     func(by P, operator string) P
	slots     [6]P // those who authenticated
	published func() (least, most int)
	verify    func(signed string) (denizen.Claims, error)
	first     func(by P, after denizen.Cursor) (denizen.Event, error) // that Follow yields
	cursor    func(after denizen.Seq) denizen.Cursor                  // of an event

	op       string
	names    map[string]string
	numbers  []uint64 // versions and sequences
	versions map[string][]uint64
	made     []denizen.UserID // ids that were generated
	locators []ownedBy[denizen.LocatorID]
	tokens   []ownedBy[denizen.TokenID]
	texts    []string
	keys     []denizen.NewAccessKey
	signing  []string
	cursors  []denizen.UserCursor
	used     []time.Time // the last uses that this step returned
}

// ownedBy is an id together with the user that it was returned for.
type ownedBy[ID ~string] struct {
	user denizen.UserID
	id   ID
}

func newSide[P caller](s subject[P], c *scriptClock, sys P) *side[P] {
	return &side[P]{subject: s, clock: c, sys: sys, names: map[string]string{}, versions: map[string][]uint64{}}
}

// answer is what a step returned: the call and what may come of it, of which a
// Directory returns one.
type answer struct {
	call string
	says []string
	used []time.Time
}

func (a answer) String() string { return a.call + " = " + strings.Join(a.says, " OR ") }

// meets reports whether an answer is one that the model allows. Last uses are to the minute.
func (a answer) meets(want answer) bool {
	return a.call == want.call && slices.Contains(want.says, a.says[0]) &&
		slices.EqualFunc(a.used, want.used, func(got, want time.Time) bool {
			return got.IsZero() == want.IsZero() && !got.After(want) && want.Sub(got) < time.Minute
		})
}

func (s *side[P]) name(kind, raw string) string {
	if raw == "" {
		return "-"
	}
	if s.names[raw] == "" {
		s.names[raw] = fmt.Sprint(kind, len(s.names))
	}
	return s.names[raw]
}

// known returns the name of what came up before, and otherwise raw.
func (s *side[P]) known(raw string) string {
	if name := s.names[raw]; name != "" {
		return name
	}
	return raw
}

func (s *side[P]) id(id denizen.UserID) string {
	if len(id) == 36 || strings.HasPrefix(string(id), "00000000-") {
		if s.names[string(id)] == "" {
			s.made = append(s.made, id)
		}
		return s.name("u", string(id))
	}
	return strconv.Quote(string(id))
}

// number returns the name of a version or sequence, with how many that came up before are
// greater.
func (s *side[P]) number(n uint64) string {
	if n == 0 {
		return "none"
	}
	i := slices.Index(s.numbers, n)
	if i < 0 {
		i = len(s.numbers)
		s.numbers = append(s.numbers, n)
	}
	greater := 0
	for _, o := range s.numbers[:i] {
		if o > n {
			greater++
		}
	}
	return fmt.Sprintf("n%d-%d", i, greater)
}

func (s *side[P]) at(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return strconv.FormatInt(t.UnixMilli()-s.clock.base, 10)
}

// calls begins an answer.
func (s *side[P]) calls(by P, args ...any) answer {
	call := by.String()
	if by.User() != "" {
		call = s.id(by.User())
	}
	if by.AccessKey() != "" {
		call += " with " + s.known(by.AccessKey())
	}
	if by.Operator() != "" {
		call += " by " + by.Operator()
	}
	return s.asks(call+"."+s.op, args...)
}

func (s *side[P]) asks(call string, args ...any) answer {
	return answer{call: call + "(" + strings.TrimSuffix(fmt.Sprintln(args...), "\n") + ")"}
}

func (s *side[P]) says(a answer, err error, what ...string) answer {
	a.used, s.used = s.used, nil
	if err == nil {
		a.says = []string{strings.Join(what, " ")}
		return a
	}
	a.used = nil
	if e, ok := err.(either); ok {
		a.says = []string{s.refusal(e[0]), s.refusal(e[1])}
	} else {
		a.says = []string{s.refusal(err)}
	}
	return a
}

func (s *side[P]) refusal(err error) string {
	e, ok := err.(*denizen.Error)
	switch {
	case err == errWouldWait:
		return "waits"
	case !ok:
		return fmt.Sprintf("an error of type %T", err)
	case e.Op != s.op && e.Op != "":
		return "an error of " + e.Op
	case strings.Contains(e.Error(), "example") || strings.Contains(e.Error(), "+1") || strings.Contains(e.Error(), "bob"):
		return "an error that tells a locator"
	}
	return fmt.Sprintf("%v(%s)", e.Kind, e.Field)
}

func (s *side[P]) user(u denizen.User) string {
	key := "user " + string(u.ID)
	if !slices.Contains(s.versions[key], uint64(u.Version)) {
		s.versions[key] = append(s.versions[key], uint64(u.Version))
	}
	return fmt.Sprintf("user(%s %s %q blocked=%t %q until %s created=%s updated=%s %s %s)", s.id(u.ID), s.name("i", u.InternalID), u.ScreenName,
		u.Blocked, u.Block.Reason, s.at(u.Block.Until), s.at(u.CreatedAt), s.at(u.UpdatedAt), s.number(uint64(u.Version)), s.locatorList(u.ID, u.Locators))
}

func (s *side[P]) users(users []denizen.User) string { return inOrder(users, s.user) }

func inOrder[T any](list []T, show func(T) string) string {
	shown := make([]string, len(list))
	for i, item := range list {
		shown[i] = show(item)
	}
	return "[" + strings.Join(shown, " ") + "]"
}

func (s *side[P]) locatorList(user denizen.UserID, list []denizen.Locator) string {
	return inOrder(list, func(l denizen.Locator) string { return s.locator(user, l) })
}

func (s *side[P]) locator(user denizen.UserID, l denizen.Locator) string {
	if seen := (ownedBy[denizen.LocatorID]{user, l.ID}); !slices.Contains(s.locators, seen) {
		s.locators = append(s.locators, seen)
	}
	return fmt.Sprintf("%s{%s %s %s owned=%t added=%s verified=%s}", s.name("l", string(l.ID)), l, l.Canonical, l.Status, l.Owned, s.at(l.AddedAt), s.at(l.VerifiedAt))
}

func (s *side[P]) profile(p denizen.Profile) string {
	key := "profile " + string(p.User)
	if p.User != "" && !slices.Contains(s.versions[key], uint64(p.Version)) {
		s.versions[key] = append(s.versions[key], uint64(p.Version))
	}
	return fmt.Sprintf("%s %s %s", s.id(p.User), s.number(uint64(p.Version)), attributesText(p.Attributes))
}

func attributesText(attributes []denizen.Attribute) string {
	return inOrder(attributes, func(a denizen.Attribute) string { return fmt.Sprintf("%+q", a) })
}

func defText(d denizen.AttributeDef) string { return fmt.Sprintf("%+v", d) }

func presenceText(p denizen.Presence) string {
	text := inOrder(states(p), func(s denizen.Presence) string { return fmt.Sprint(s.State(), " ", s.TTL()) })
	return fmt.Sprintf("%s@%q", text, p.Device())
}

func (s *side[P]) presence(p denizen.UserPresence) string {
	return fmt.Sprintf("%s %s since %s until %s", s.id(p.User), presenceText(p.Presence), s.at(p.Since), s.at(p.Until))
}

func (s *side[P]) token(user denizen.UserID, t denizen.Token) string {
	s.used = append(s.used, t.LastUsedAt)
	return fmt.Sprintf("%s{%q %s issued=%s expires=%s}", s.tokenName(user, t.ID), t.Label, s.known(t.AccessKey), s.at(t.IssuedAt), s.at(t.ExpiresAt))
}

func (s *side[P]) tokenName(user denizen.UserID, id denizen.TokenID) string {
	if seen := (ownedBy[denizen.TokenID]{user, id}); !slices.Contains(s.tokens, seen) {
		s.tokens = append(s.tokens, seen)
	}
	return s.name("t", string(id))
}

func (s *side[P]) issued(a answer, user denizen.UserID, t denizen.IssuedToken, err error) answer {
	if err != nil {
		return s.says(a, err)
	}
	s.texts = append(s.texts, t.Signed)
	return s.says(a, nil, s.tokenName(user, t.ID), "expires", s.at(t.ExpiresAt))
}

func (s *side[P]) key(k denizen.AccessKey) string {
	s.used = append(s.used, k.LastUsedAt)
	return fmt.Sprintf("%s{created=%s %s}", s.known(k.Key), s.at(k.CreatedAt), k.LastAction)
}

func (s *side[P]) event(e denizen.Event) string {
	for _, subject := range e.Subjects {
		if e.Kind == denizen.EventSigningKeyRotated && !slices.Contains(s.signing, subject) {
			s.signing = append(s.signing, subject)
			s.name("s", subject)
		}
	}
	return fmt.Sprintf("{%s %s %s by %s/%s/%s of %s/%s and %s %s}", s.number(uint64(e.Seq)), s.at(e.At), e.Kind, s.known(e.Actor), s.known(e.AccessKey), e.Operator,
		s.known(string(e.User)), s.name("i", e.InternalID), s.known(string(e.Other)), inOrder(e.Subjects, s.known))
}

// came keeps a principal for later steps.
func (s *side[P]) came(a answer, slot int, p P, err error) answer {
	if err != nil {
		if p != *new(P) {
			return s.says(a, nil, "a principal beside an error")
		}
		return s.says(a, err)
	}
	s.slots[slot%len(s.slots)] = p
	return s.says(a, nil, fmt.Sprintf("%s token=%s key=%s operator=%s system=%t anonymous=%t participates=%t", s.known(p.String()),
		s.name("t", string(p.Token())), s.known(p.AccessKey()), p.Operator(), p.IsSystem(), p.IsAnonymous(), p.MayParticipate()))
}

// Who and what a step names.

func (s *side[P]) by(st step) P {
	switch n := st.by % 16; {
	case n < 7:
		return s.sys
	case n == 15:
		return *new(P)
	default:
		return cmp.Or(s.slots[(n-7)%len(s.slots)], s.sys)
	}
}

// target returns the user that a step is about: the one who acts, if a user, half of the time.
func (s *side[P]) target(st step) denizen.UserID {
	if by := s.by(st).User(); by != "" && st.who%2 == 0 {
		return by
	}
	return s.anybody(st.who / 2)
}

func (s *side[P]) anybody(n int) denizen.UserID {
	switch n %= 14; {
	case n < 9:
		return ids[n%3]
	case n == 9:
		return ids[3]
	case n < 12 && len(s.made) > 0:
		return s.made[(len(s.made)-1)*(n-10)]
	case n == 13:
		return []denizen.UserID{"short", ".system", "me", "-leading-dash", "space in-it"}[len(s.numbers)%5]
	}
	return ids[4]
}

// expectUser returns the versions that a step expects of a user: mostly any, or the newest that was
// seen, an older one, none at all, or two, which no user is at.
func (s *side[P]) expectUser(id denizen.UserID, n int) ([]denizen.UserVersion, string) {
	return expecting[denizen.UserVersion](s, "user "+string(id), n)
}

// expectProfile is expectUser for a profile.
func (s *side[P]) expectProfile(id denizen.UserID, n int) ([]denizen.ProfileVersion, string) {
	return expecting[denizen.ProfileVersion](s, "profile "+string(id), n)
}

func expecting[V ~uint64, P caller](s *side[P], of string, n int) (chosen []V, text string) {
	seen := s.versions[of]
	some := []uint64{0}
	switch n %= 10; {
	case n < 5:
		return nil, ""
	case n < 8 && len(seen) > 0:
		some = seen[len(seen)-1:]
	case n == 8 && len(seen) > 0:
		some = seen[:1]
	case n == 9 && len(seen) > 1:
		some = seen[len(seen)-2:]
	}
	for _, v := range some {
		chosen = append(chosen, V(v))
	}
	return chosen, "at " + inOrder(some, s.number)
}

func (s *side[P]) newLocator(n, status int) denizen.NewLocator {
	statuses := append([]denizen.VerificationStatus{"", "", ""}, append(statuses, "Sure")...)
	l := denizen.NewLocator{Locator: anyOf(locators, n), Status: anyOf(statuses, status), Override: n >= 3*len(locators)}
	if strings.HasPrefix(l.Locator, "nick:") && status%3 > 0 {
		l.Status = "" // few others are for names
	}
	return l
}

// ofTarget returns the id of something of the target's, or of anybody's, and whose that is.
func ofTarget[ID ~string](list []ownedBy[ID], target denizen.UserID, n int) (denizen.UserID, ID) {
	if len(list) == 0 {
		return target, "none such"
	}
	theirs := slices.DeleteFunc(slices.Clone(list), func(o ownedBy[ID]) bool { return o.user != target })
	if n%4 != 0 && len(theirs) > 0 {
		return target, theirs[len(theirs)-1-n/4%len(theirs)].id
	}
	some := list[len(list)-1-n/4%len(list)]
	if n%8 == 0 {
		return target, some.id
	}
	return some.user, some.id
}

func newAttribute(key, value int) denizen.Attribute {
	a := denizen.Attribute{Key: anyOf(attributeKeys, key%9), Value: anyOf(values, value%20/2)}
	switch value % 11 {
	case 0:
		a.ContentType = "text/html"
	case 1:
		a.ContentEncoding = "gzip"
	}
	return a
}

func (s *side[P]) accessKey(n int) denizen.NewAccessKey {
	if len(s.keys) == 0 {
		return denizen.NewAccessKey{Key: "no-such-key", Secret: broughtSecrets[0]}
	}
	return s.keys[len(s.keys)-1-n%len(s.keys)]
}

// place returns the sequence of an event.
func (s *side[P]) place(n int) denizen.Seq {
	if n%4 == 0 || len(s.numbers) == 0 {
		return 0
	}
	return denizen.Seq(s.numbers[len(s.numbers)-1-n/4%len(s.numbers)])
}

func collect[T any](all iter.Seq2[T, error]) (list []T, err error) {
	for item, err := range all {
		if err != nil {
			return list, err
		}
		list = append(list, item)
	}
	return list, nil
}

// present pages through who is here, and returns them in the order of their names.
func (s *side[P]) present(by P, limit int) (string, error) {
	var here []string
	for q := (denizen.PresentQuery{Limit: limit}); ; {
		page, err := s.Present(ctx, by, q)
		if err != nil {
			return "", err
		}
		for _, p := range page.Users {
			here = append(here, s.presence(p))
		}
		if q.After = page.Next; q.After == "" {
			slices.Sort(here)
			return strings.Join(here, " "), nil
		}
	}
}

func (s *side[P]) device(n int) string {
	return anyOf([]string{"", "phone", "phone", "desk", "", "phone", "desk", "a\x00b"}, n)
}

func (s *side[P]) chain(n, device int) denizen.Presence {
	if n%20 < 16 {
		n %= 8
	}
	return anyOf(chains, n%20).On(s.device(device))
}

// operation is one kind of step.
type operation[P caller] struct {
	name   string
	weight int
	do     func(s *side[P], st step) answer
}

var ctx = context.Background()

// How far time goes on, and the wall clock back.
var (
	advances = []time.Duration{
		0, time.Millisecond, 999 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second, 7 * time.Second,
		time.Minute, time.Minute - time.Millisecond, 10 * time.Minute, time.Hour, time.Hour + time.Second, 3 * time.Hour, 24 * time.Hour, 49 * time.Hour,
	}
	setBacks = []time.Duration{time.Second, 0, 10 * time.Minute, 0, 90 * time.Minute, 0, 3 * time.Minute}
)

func operations[P caller]() []operation[P] {
	return []operation[P]{
		{"CreateUser", 8, func(s *side[P], st step) answer {
			by, n := s.by(st), denizen.NewUser{ScreenName: anyOf(scriptNames, st.args[0])}
			if st.who%5 != 0 {
				n.ID = s.anybody(st.who / 2)
			}
			for i := range st.args[1] % 3 {
				n.Locators = append(n.Locators, s.newLocator(st.args[1]+5*i, st.args[2]))
			}
			for i := range st.args[2] % 3 {
				n.Attributes = append(n.Attributes, newAttribute(st.args[1]+i, st.args[0]))
			}
			if st.args[0]%4 == 0 {
				n.Idempotency = denizen.Idempotency{Key: strconv.Itoa(st.args[1] % 3), Digest: anyOf([]string{"one", "one", "two", ""}, st.args[2])}
			}
			a := s.calls(by, s.id(n.ID), fmt.Sprintf("%q %v %q %+v", n.ScreenName, n.Locators, n.Attributes, n.Idempotency))
			u, err := s.CreateUser(ctx, by, n)
			if err != nil {
				return s.says(a, err)
			}
			return s.says(a, nil, s.user(u))
		}},
		{"User", 3, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			a := s.calls(by, s.id(id))
			u, err := s.User(ctx, by, id)
			return s.says(a, err, s.user(u))
		}},
		{"UsersByID", 2, func(s *side[P], st step) answer {
			by, some := s.by(st), s.some(st)
			a := s.calls(by, inOrder(some, s.id))
			users, err := s.UsersByID(ctx, by, some)
			return s.says(a, err, s.users(users))
		}},
		{"ResolveUser", 3, func(s *side[P], st step) answer {
			by, ref := s.by(st), anyOf(locators, st.args[0])
			switch st.args[1] % 6 {
			case 0:
				ref = string(s.target(st))
			case 1:
				ref = "me"
			}
			a := s.calls(by, s.known(ref))
			id, err := s.ResolveUser(ctx, by, ref)
			return s.says(a, err, s.id(id))
		}},
		{"UsersByLocator", 2, func(s *side[P], st step) answer {
			by := s.by(st)
			var wanted []string
			for i := range st.args[1] % 5 {
				wanted = append(wanted, anyOf(locators, st.args[0]+3*i))
			}
			a, given := s.calls(by, wanted), slices.Clone(wanted)
			users, err := s.UsersByLocator(ctx, by, given)
			if !slices.Equal(given, wanted) {
				return s.says(a, nil, "changed what it was given")
			}
			return s.says(a, err, s.users(users))
		}},
		{"Locate", 2, func(s *side[P], st step) answer {
			by := s.by(st)
			var wanted []string
			for i := range st.args[1] % 5 {
				wanted = append(wanted, anyOf(locators, st.args[0]+3*i))
			}
			a := s.calls(by, wanted)
			found, err := s.Locate(ctx, by, wanted...)
			return s.says(a, err, inOrder(found, s.id))
		}},
		{"CheckLocators", 1, func(s *side[P], st step) answer {
			by := s.by(st)
			a := s.calls(by)
			changes, err := collect(s.CheckLocators(ctx, by))
			return s.says(a, err, fmt.Sprint(changes))
		}},
		{"RekeyLocators", 1, func(s *side[P], st step) answer {
			by := s.by(st)
			a := s.calls(by)
			changes, err := collect(s.RekeyLocators(ctx, by))
			return s.says(a, err, fmt.Sprint(changes))
		}},
		{"Users", 3, func(s *side[P], st step) answer {
			by, q := s.by(st), denizen.UserQuery{Limit: anyOf([]int{1, 2, 0, 1, 3, 1000, 1001, -1}, st.args[0])}
			if n := st.args[1] % (len(s.cursors) + 2); n < len(s.cursors) {
				q.After = s.cursors[n]
			}
			a := s.calls(by, q.Limit, s.known(string(q.After)))
			if q.After != "" && st.args[2]%8 == 0 {
				a.call, q.After = a.call+" forged", q.After+"A"
			}
			page, err := s.Users(ctx, by, q)
			if page.Next != "" && s.names[string(page.Next)] == "" {
				s.cursors = append(s.cursors, page.Next)
			}
			return s.says(a, err, s.users(page.Users), "next", s.name("c", string(page.Next)))
		}},
		{"AllUsers", 1, func(s *side[P], st step) answer {
			by := s.by(st)
			a := s.calls(by)
			users, err := collect(s.AllUsers(ctx, by))
			s.op = "Users" // whose refusal it is
			return s.says(a, err, s.users(users))
		}},
		{"CountUsers", 2, func(s *side[P], st step) answer {
			by := s.by(st)
			n, err := s.CountUsers(ctx, by)
			return s.says(s.calls(by), err, strconv.Itoa(n))
		}},
		{"SetScreenName", 4, func(s *side[P], st step) answer {
			by, id, name := s.by(st), s.target(st), anyOf(scriptNames, st.args[0])
			at, text := s.expectUser(id, st.args[1])
			a := s.calls(by, s.id(id), strconv.Quote(name), text)
			u, err := s.SetScreenName(ctx, by, id, name, at...)
			return s.says(a, err, s.user(u))
		}},
		{"BlockUser", 3, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			at, text := s.expectUser(id, st.args[1])
			a := s.calls(by, s.id(id), text)
			var b denizen.Block
			if n := st.args[0] % 12; n < 8 {
				b = denizen.Block{Reason: anyOf([]string{"", "spam", strings.Repeat("r", 1025)}, st.args[2]), Until: time.UnixMilli(s.clock.latest).Add(anyOf(blockedFor, n))}
			}
			u, err := s.BlockUser(ctx, by, id, b, at...)
			return s.says(a, err, s.user(u))
		}},
		{"EraseUser", 3, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			at, text := s.expectUser(id, st.args[1])
			a := s.calls(by, s.id(id), text)
			e, err := s.EraseUser(ctx, by, id, at...)
			if err != nil {
				return s.says(a, err)
			}
			// What has expired is found or swept, as it comes.
			for _, kind := range []string{"devices", "tokens", "restingLocators", "idempotencyKeys"} {
				delete(e.Removed, kind)
			}
			return s.says(a, nil, s.id(e.User), s.name("i", e.InternalID), s.at(e.ErasedAt), fmt.Sprint(e.Removed))
		}},
		{"UnblockUser", 4, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			at, text := s.expectUser(id, st.args[1])
			a := s.calls(by, s.id(id), text)
			u, err := s.UnblockUser(ctx, by, id, at...)
			return s.says(a, err, s.user(u))
		}},
		{"CancelUndo", 6, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			a := s.calls(by, s.id(id))
			return s.says(a, s.CancelUndo(ctx, by, id))
		}},
		{"DeleteUser", 4, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			at, text := s.expectUser(id, st.args[1])
			a := s.calls(by, s.id(id), text)
			return s.says(a, s.DeleteUser(ctx, by, id, at...))
		}},
		{"MergeUsers", 4, func(s *side[P], st step) answer {
			by, from, into := s.by(st), s.target(st), s.anybody(st.args[0])
			policy := denizen.MergePolicy{
				Attributes: denizen.MergeRule(st.args[1] % 31 % 4), Alias: anyOf(aliasTimes, st.args[2]),
			}
			a := s.calls(by, s.id(from), s.id(into), fmt.Sprintf("%+v", policy))
			u, err := s.MergeUsers(ctx, by, from, into, policy)
			return s.says(a, err, s.user(u))
		}},
		{"MoveLocator", 4, func(s *side[P], st step) answer {
			by, to := s.by(st), s.anybody(st.args[1])
			from, locator := ofTarget(s.locators, s.target(st), st.args[0])
			a := s.calls(by, s.id(from), s.known(string(locator)), s.id(to))
			l, err := s.MoveLocator(ctx, by, from, locator, to)
			if err != nil {
				return s.says(a, err)
			}
			return s.says(a, nil, s.locator(to, l))
		}},
		{"RevealLocator", 2, func(s *side[P], st step) answer {
			by := s.by(st)
			id, locator := ofTarget(s.locators, s.target(st), st.args[0])
			a := s.calls(by, s.id(id), s.known(string(locator)))
			l, err := s.RevealLocator(ctx, by, id, locator)
			if err != nil {
				return s.says(a, err)
			}
			return s.says(a, nil, s.locator(id, l))
		}},
		{"Locators", 2, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			a := s.calls(by, s.id(id))
			list, err := s.Locators(ctx, by, id)
			return s.says(a, err, s.locatorList(id, list))
		}},
		{"Locator", 2, func(s *side[P], st step) answer {
			by := s.by(st)
			id, locator := ofTarget(s.locators, s.target(st), st.args[0])
			a := s.calls(by, s.id(id), s.known(string(locator)))
			l, err := s.Locator(ctx, by, id, locator)
			if err != nil {
				return s.says(a, err)
			}
			return s.says(a, nil, s.locator(id, l))
		}},
		{"AddLocator", 9, func(s *side[P], st step) answer {
			by, id, n := s.by(st), s.target(st), s.newLocator(st.args[0], st.args[1])
			at, text := s.expectUser(id, st.args[2])
			a := s.calls(by, s.id(id), n, text)
			l, err := s.AddLocator(ctx, by, id, n, at...)
			if err != nil {
				return s.says(a, err)
			}
			return s.says(a, nil, s.locator(id, l))
		}},
		{"SetLocators", 4, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			var list []denizen.NewLocator
			for i := range st.args[0] % 4 {
				list = append(list, s.newLocator(st.args[1]+5*i, st.args[0]/4))
			}
			at, text := s.expectUser(id, st.args[2])
			a := s.calls(by, s.id(id), list, text)
			u, err := s.SetLocators(ctx, by, id, list, at...)
			return s.says(a, err, s.user(u))
		}},
		{"SetVerification", 6, func(s *side[P], st step) answer {
			by := s.by(st)
			id, locator := ofTarget(s.locators, s.target(st), st.args[0])
			status := anyOf(append(slices.Clone(statuses), denizen.Verified, denizen.Verified, "Sure"), st.args[1])
			at, text := s.expectUser(id, st.args[2])
			a := s.calls(by, s.id(id), s.known(string(locator)), status, text)
			l, err := s.SetVerification(ctx, by, id, locator, status, at...)
			if err != nil {
				return s.says(a, err)
			}
			return s.says(a, nil, s.locator(id, l))
		}},
		{"ReplaceLocator", 6, func(s *side[P], st step) answer {
			by, n := s.by(st), s.newLocator(st.args[1], st.args[2])
			id, locator := ofTarget(s.locators, s.target(st), st.args[0])
			at, text := s.expectUser(id, st.args[2])
			a := s.calls(by, s.id(id), s.known(string(locator)), n, text)
			l, err := s.ReplaceLocator(ctx, by, id, locator, n, at...)
			if err != nil {
				return s.says(a, err)
			}
			return s.says(a, nil, s.locator(id, l))
		}},
		{"RemoveLocator", 4, func(s *side[P], st step) answer {
			by := s.by(st)
			id, locator := ofTarget(s.locators, s.target(st), st.args[0])
			at, text := s.expectUser(id, st.args[1])
			a := s.calls(by, s.id(id), s.known(string(locator)), text)
			return s.says(a, s.RemoveLocator(ctx, by, id, locator, at...))
		}},
		{"DefineAttribute", 4, func(s *side[P], st step) answer {
			by, n := s.by(st), st.args[1]
			def := denizen.AttributeDef{
				Key: anyOf(attributeKeys, st.args[0]%9), NotEmpty: n%3 == 0,
				VisibleTo: anyOf(scriptAudiences, n), WritableBy: anyOf([]denizen.Audience{"", denizen.ToSelf, denizen.ToSelf, denizen.ToSystem}, st.args[2]),
			}
			switch n % 7 {
			case 0:
				def.ContentTypes = []string{"text/plain", "text/markdown"}
			case 1:
				def.ContentEncodings = []string{"identity"}
			case 2:
				def.MaxBytes = 10
			}
			switch st.args[2] % 16 {
			case 15:
				def.MaxBytes = denizen.MaxAttributeBytes + 1
			case 14:
				def.VisibleTo = "everybody"
			case 13:
				def.WritableBy = denizen.ToPeers
			}
			a := s.calls(by, defText(def))
			defined, err := s.DefineAttribute(ctx, by, def)
			return s.says(a, err, defText(defined))
		}},
		{"AttributeDef", 1, func(s *side[P], st step) answer {
			by, key := s.by(st), anyOf(attributeKeys, st.args[0])
			a := s.calls(by, key)
			def, err := s.AttributeDef(ctx, by, key)
			return s.says(a, err, defText(def))
		}},
		{"AttributeDefs", 1, func(s *side[P], st step) answer {
			by := s.by(st)
			defs, err := s.AttributeDefs(ctx, by)
			return s.says(s.calls(by), err, inOrder(defs, defText))
		}},
		{"DropAttributeDef", 3, func(s *side[P], st step) answer {
			by, key := s.by(st), anyOf(attributeKeys, st.args[0])
			return s.says(s.calls(by, key), s.DropAttributeDef(ctx, by, key))
		}},
		{"SetAttribute", 5, func(s *side[P], st step) answer {
			by, id, attribute := s.by(st), s.target(st), newAttribute(st.args[0], st.args[1])
			at, text := s.expectProfile(id, st.args[2])
			a := s.calls(by, s.id(id), fmt.Sprintf("%+q", attribute), text)
			p, err := s.SetAttribute(ctx, by, id, attribute, at...)
			return s.says(a, err, s.profile(p))
		}},
		{"SetAttributes", 5, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			var list []denizen.Attribute
			for i := range st.args[0] % 4 {
				list = append(list, newAttribute(st.args[0]+st.args[1]*i, st.args[1]+i))
			}
			mode := anyOf([]denizen.PatchMode{denizen.Merge, denizen.Replace, denizen.Merge, denizen.Replace, 2}, st.args[2]/10)
			at, text := s.expectProfile(id, st.args[2])
			a := s.calls(by, s.id(id), fmt.Sprintf("%+q", list), mode, text)
			p, err := s.SetAttributes(ctx, by, id, list, mode, at...)
			return s.says(a, err, s.profile(p))
		}},
		{"RemoveAttribute", 6, func(s *side[P], st step) answer {
			by, id, key := s.by(st), s.target(st), anyOf(attributeKeys, st.args[0]%9)
			at, text := s.expectProfile(id, st.args[2])
			a := s.calls(by, s.id(id), key, text)
			return s.says(a, s.RemoveAttribute(ctx, by, id, key, at...))
		}},
		{"Profile", 4, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			a := s.calls(by, s.id(id))
			p, err := s.Profile(ctx, by, id)
			return s.says(a, err, s.profile(p))
		}},
		{"Attributes", 2, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			var keys []string
			for i := range st.args[0] % 3 {
				keys = append(keys, anyOf(attributeKeys, st.args[1]+i))
			}
			a := s.calls(by, s.id(id), keys)
			attributes, err := s.Attributes(ctx, by, id, keys)
			return s.says(a, err, attributesText(attributes))
		}},
		{"SetPresence", 9, func(s *side[P], st step) answer {
			by, id, p := s.by(st), s.target(st), s.chain(st.args[0], st.args[1])
			a := s.calls(by, s.id(id), presenceText(p))
			return s.says(a, s.SetPresence(ctx, by, id, p))
		}},
		{"SetManyPresences", 1, func(s *side[P], st step) answer {
			s.op = "SetPresence"
			by, id := s.by(st), s.target(st)
			a := s.calls(by, s.id(id))
			for i := range 5 + st.args[0]%8 {
				p := s.chain(st.args[1]+i*st.args[2], 0).On(fmt.Sprint("device ", st.args[0]%3, i))
				if err := s.SetPresence(ctx, by, id, p); err != nil {
					return s.says(a, err, strconv.Itoa(i))
				}
			}
			return s.says(a, nil)
		}},
		{"ClearPresence", 12, func(s *side[P], st step) answer {
			by, id, device := s.by(st), s.target(st), s.device(st.args[1])
			a := s.calls(by, s.id(id), fmt.Sprintf("%q", device))
			return s.says(a, s.ClearPresence(ctx, by, id, device))
		}},
		{"ClearAllPresence", 1, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			a := s.calls(by, s.id(id))
			return s.says(a, s.ClearAllPresence(ctx, by, id))
		}},
		{"SetPresenceHidden", 2, func(s *side[P], st step) answer {
			by, id, hidden := s.by(st), s.target(st), st.args[0]%2 == 0
			return s.says(s.calls(by, s.id(id), hidden), s.SetPresenceHidden(ctx, by, id, hidden))
		}},
		{"Present", 2, func(s *side[P], st step) answer {
			by, limit := s.by(st), st.args[0]%5-1 // which are few: there are several pages
			a := s.calls(by, limit)
			here, err := s.present(by, limit)
			return s.says(a, err, here)
		}},
		{"CountPresent", 2, func(s *side[P], st step) answer {
			by := s.by(st)
			states, err := s.CountPresent(ctx, by)
			return s.says(s.calls(by), err, fmt.Sprint(states))
		}},
		{"Devices", 4, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			a := s.calls(by, s.id(id))
			ps, err := s.Devices(ctx, by, id)
			return s.says(a, err, inOrder(ps, s.presence))
		}},
		{"Presence", 6, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			a := s.calls(by, s.id(id))
			p, err := s.Presence(ctx, by, id)
			return s.says(a, err, s.presence(p))
		}},
		{"Presences", 2, func(s *side[P], st step) answer {
			by, some := s.by(st), s.some(st)
			a := s.calls(by, inOrder(some, s.id))
			ps, err := s.Presences(ctx, by, some)
			return s.says(a, err, inOrder(ps, s.presence))
		}},
		{"IssueToken", 7, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			o := denizen.TokenOptions{Label: anyOf([]string{"", "phone", "desk", "bell\a"}, st.args[1]%7)}
			if st.args[0]%3 != 0 {
				o.TTL = anyOf(append(slices.Clone(lengths), time.Second/2, -time.Second, 49*time.Hour), st.args[0]/3)
			}
			a := s.calls(by, s.id(id), fmt.Sprintf("%+v", o))
			t, err := s.IssueToken(ctx, by, id, o)
			return s.issued(a, id, t, err)
		}},
		{"ExtendToken", 6, func(s *side[P], st step) answer {
			by := s.by(st)
			id, token := ofTarget(s.tokens, s.target(st), st.args[0])
			ttl := anyOf(append(slices.Clone(lengths), time.Second/2, -time.Second, 49*time.Hour), st.args[1])
			a := s.calls(by, s.id(id), s.known(string(token)), ttl)
			t, err := s.ExtendToken(ctx, by, id, token, ttl)
			return s.issued(a, id, t, err)
		}},
		{"ExtendTokenOften", 1, func(s *side[P], st step) answer {
			s.op = "ExtendToken"
			by := s.by(st)
			id, token := ofTarget(s.tokens, s.target(st), st.args[0])
			a := s.calls(by, s.id(id), s.known(string(token)))
			for i := range 9 {
				t, err := s.ExtendToken(ctx, by, id, token, time.Hour+time.Duration(i+st.args[1])*time.Minute)
				if a = s.issued(a, id, t, err); err != nil {
					return a
				}
			}
			return a
		}},
		{"Tokens", 3, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			a := s.calls(by, s.id(id))
			list, err := s.Tokens(ctx, by, id)
			return s.says(a, err, inOrder(list, func(t denizen.Token) string { return s.token(id, t) }))
		}},
		{"RevokeTokens", 3, func(s *side[P], st step) answer {
			by := s.by(st)
			id, token := ofTarget(s.tokens, s.target(st), st.args[0])
			revoked := []denizen.TokenID{token}
			if _, another := ofTarget(s.tokens, id, st.args[1]); st.args[1]%2 == 0 {
				revoked = append(revoked, another)
			}
			if st.args[1]%7 == 0 {
				revoked = nil
			}
			a := s.calls(by, s.id(id), inOrder(revoked, func(t denizen.TokenID) string { return s.known(string(t)) }))
			return s.says(a, s.RevokeTokens(ctx, by, id, revoked...))
		}},
		{"RevokeAllTokens", 1, func(s *side[P], st step) answer {
			by, id := s.by(st), s.target(st)
			a := s.calls(by, s.id(id))
			return s.says(a, s.RevokeAllTokens(ctx, by, id))
		}},
		{"RevokeTokensIssuedBy", 1, func(s *side[P], st step) answer {
			by, key := s.by(st), s.accessKey(st.args[0]).Key
			if st.args[1]%8 == 0 {
				key = ""
			}
			a := s.calls(by, s.known(key))
			n, err := s.RevokeTokensIssuedBy(ctx, by, key)
			return s.says(a, err, strconv.Itoa(n))
		}},
		{"Logout", 2, func(s *side[P], st step) answer {
			by := s.by(st)
			return s.says(s.calls(by, s.known(string(by.Token()))), s.Logout(ctx, by))
		}},
		{"Authenticate", 10, func(s *side[P], st step) answer {
			n := st.args[0] % (len(s.texts) + 1)
			a, signed := s.asks(s.op, "text", n), "not.a.token"
			if n < len(s.texts) {
				signed = s.texts[len(s.texts)-1-n]
				switch st.args[1] % 12 {
				case 0:
					a.call, signed = a.call+" without its end", signed[:len(signed)-1]
				case 1:
					a.call, signed = a.call+" and more", signed+"A"
				}
			}
			p, err := s.Authenticate(ctx, signed)
			return s.came(a, st.args[2], p, err)
		}},
		{"ActAs", 5, func(s *side[P], st step) answer {
			by, id := s.by(st), s.anybody(st.who/2)
			a := s.calls(by, s.id(id))
			p, err := s.ActAs(ctx, by, id)
			return s.came(a, st.args[2], p, err)
		}},
		{"Named", 3, func(s *side[P], st step) answer {
			by, operator := s.by(st), anyOf(operators, st.args[0])
			return s.came(s.calls(by, operator), st.args[2], s.named(by, operator), nil)
		}},
		{"CreateAccessKey", 2, func(s *side[P], st step) answer {
			by := s.by(st)
			k, err := s.CreateAccessKey(ctx, by)
			if err != nil {
				return s.says(s.calls(by), err)
			}
			s.keys = append(s.keys, k)
			return s.says(s.calls(by), nil, s.name("k", k.Key), s.at(k.CreatedAt))
		}},
		{"PutAccessKey", 4, func(s *side[P], st step) answer {
			by, k := s.by(st), denizen.NewAccessKey{Key: anyOf(broughtKeys, st.args[0]), Secret: anyOf(broughtSecrets, st.args[1]%5/2)}
			a := s.calls(by, k.Key, k.Secret)
			err := s.PutAccessKey(ctx, by, k.Key, k.Secret)
			if err == nil {
				s.keys = append(s.keys, k)
			}
			return s.says(a, err)
		}},
		{"AccessKeys", 2, func(s *side[P], st step) answer {
			by := s.by(st)
			keys, err := s.AccessKeys(ctx, by)
			return s.says(s.calls(by), err, inOrder(keys, s.key))
		}},
		{"DeleteAccessKey", 3, func(s *side[P], st step) answer {
			by, key := s.by(st), s.accessKey(st.args[0]).Key
			return s.says(s.calls(by, s.known(key)), s.DeleteAccessKey(ctx, by, key))
		}},
		{"AuthenticateKey", 5, func(s *side[P], st step) answer {
			k, how := s.accessKey(st.args[0]), ""
			if st.args[1]%6 == 0 {
				k.Secret, how = broughtSecrets[st.args[1]/6%3], "with another secret"
			}
			a := s.asks(s.op, s.known(k.Key), how)
			p, err := s.AuthenticateKey(ctx, k.Key, k.Secret)
			return s.came(a, st.args[2], p, err)
		}},
		{"AuthenticateSigned", 3, func(s *side[P], st step) answer {
			k, n := s.accessKey(st.args[0]), st.args[1]
			off := anyOf([]time.Duration{0, 0, -24 * time.Second, 24 * time.Second, 0, -25 * time.Second, 27 * time.Second, -27 * time.Second}, n)
			r := denizen.SignedRequest{
				AccessKey: k.Key, Method: "GET", ContentType: "null", Path: "/v1/users", Nonce: anyOf([]string{"nonce-one", "nonce-two", "short"}, n%5/2),
				Date: time.UnixMilli(s.clock.latest).UTC().Add(off).Format("Mon, 02 Jan 2006 15:04:05 GMT"),
			}
			if n%11 == 0 {
				r.Date = "yesterday"
			}
			a := s.asks(s.op, s.known(k.Key), r.Nonce, r.Date)
			if r.Digest = digestOf(r, k.Secret); n%9 == 0 {
				a.call += " with another secret"
				r.Digest = digestOf(r, broughtSecrets[2])
			}
			p, err := s.AuthenticateSigned(ctx, r)
			return s.came(a, st.args[2], p, err)
		}},
		{"RotateSigningKey", 2, func(s *side[P], st step) answer {
			by, notice := s.by(st), anyOf([]time.Duration{0, time.Minute, 0, 3 * time.Hour, -1, 9000 * time.Hour}, st.args[0])
			return s.says(s.calls(by, notice), s.RotateSigningKey(ctx, by, notice))
		}},
		{"DropSigningKey", 2, func(s *side[P], st step) answer {
			by, id := s.by(st), "none such"
			if len(s.signing) > 0 && st.args[0]%6 != 0 {
				id = s.signing[len(s.signing)-1-st.args[0]/6%len(s.signing)]
			}
			return s.says(s.calls(by, s.known(id)), s.DropSigningKey(ctx, by, id))
		}},
		{"PublicKeys", 2, func(s *side[P], st step) answer {
			a := s.asks(s.op)
			least, most := s.published()
			for n := least; n <= most; n++ {
				a.says = append(a.says, strconv.Itoa(n))
			}
			return a
		}},
		{"Verify", 2, func(s *side[P], st step) answer {
			if len(s.texts) == 0 || !s.clock.sleeps {
				return s.says(s.asks(s.op), nil) // a service looks at its own clock
			}
			n := st.args[0] % len(s.texts)
			a := s.asks(s.op, "text", n)
			c, err := s.verify(s.texts[len(s.texts)-1-n])
			return s.says(a, err, s.id(c.User), s.name("i", c.InternalID), s.name("t", string(c.Token)), s.at(c.IssuedAt), s.at(c.ExpiresAt))
		}},
		{"Events", 4, func(s *side[P], st step) answer {
			by, after := s.by(st), s.place(st.args[0])
			a := s.calls(by, s.number(uint64(after)))
			events, err := collect(s.Events(ctx, by, s.cursor(after)))
			if e, ok := err.(*denizen.Error); ok && e.Kind == denizen.ErrMissed {
				// Where to go on is after everything, and before whatever comes.
				later, again := collect(s.Events(ctx, by, e.Resume))
				if len(later) > 0 || again != nil {
					return s.says(a, again, "more after all")
				}
			}
			return s.says(a, err, inOrder(events, s.event))
		}},
		{"Follow", 2, func(s *side[P], st step) answer {
			by, after := s.by(st), s.place(st.args[0])
			a := s.calls(by, s.number(uint64(after)))
			e, err := s.first(by, s.cursor(after))
			if err != nil {
				return s.says(a, err)
			}
			return s.says(a, nil, s.event(e))
		}},
		{"Check", 6, func(s *side[P], st step) answer {
			by := s.by(st)
			return s.says(s.calls(by), s.Check(ctx, by))
		}},
		{"RecentEvents", 3, func(s *side[P], st step) answer {
			by, q := s.by(st), denizen.EventQuery{Limit: []int{1, 2, 5, 100, 101}[st.args[0]%5], Before: s.place(st.args[1])}
			if st.args[0]%3 == 0 {
				q.User = s.anybody(st.who / 2)
			}
			if st.args[1]%5 == 0 {
				q.Kinds = []denizen.EventKind{denizen.EventUserCreated, denizen.EventLocatorMoved, denizen.EventTokenIssued, denizen.EventUserMerged}
			}
			if st.args[2]%5 == 0 {
				q.Operator = anyOf(operators, st.args[2]/5)
			}
			a := s.calls(by, q.Limit, s.number(uint64(q.Before)), s.id(q.User), q.Kinds, q.Operator)
			page, err := s.RecentEvents(ctx, by, q)
			if err != nil {
				return s.says(a, err)
			}
			next := "older" // whether an older one is kept depends on commits without an event
			if len(page.Events) < q.Limit {
				next = s.number(uint64(page.Next))
			}
			return s.says(a, nil, inOrder(page.Events, s.event), next)
		}},
		{"TrimFeed", 1, func(s *side[P], st step) answer {
			by, upTo := s.by(st), s.place(st.args[0])
			return s.says(s.calls(by, s.number(uint64(upTo))), s.TrimFeed(ctx, by, upTo))
		}},
		{"Audit", 1, func(s *side[P], st step) answer { return s.audit() }},
		{"Advance", 14, nil},
		{"SetWallClock", 2, nil},
		{"Reopen", 4, nil},
	}
}

// some returns a few users.
func (s *side[P]) some(st step) (some []denizen.UserID) {
	for i := range st.args[0] % 4 {
		st.who += st.args[1] * i
		some = append(some, s.target(st))
	}
	return some
}

// audit reads all that there is.
func (s *side[P]) audit() answer {
	a := answer{call: s.op}
	var says []string
	var used []time.Time
	add := func(op string, err error, what ...string) {
		s.op = op
		b := s.says(a, err, what...)
		says, used = append(says, op+": "+b.says[0]), append(used, b.used...)
	}
	users, err := collect(s.AllUsers(ctx, s.sys))
	add("Users", err, s.users(users))
	n, err := s.CountUsers(ctx, s.sys)
	add("CountUsers", err, strconv.Itoa(n))
	for _, u := range users {
		p, err := s.Profile(ctx, s.sys, u.ID)
		add("Profile", err, s.profile(p))
		now, err := s.Presence(ctx, s.sys, u.ID)
		add("Presence", err, s.presence(now))
		tokens, err := s.Tokens(ctx, s.sys, u.ID)
		add("Tokens", err, inOrder(tokens, func(t denizen.Token) string { return s.token(u.ID, t) }))
	}
	refs := append(locators[:9:9], "nick:bob", "nick:b0b", "nick:zoe", "nick:ann", "nick:kim", "nick:root")
	for _, id := range ids {
		refs = append(refs, string(id))
	}
	for _, l := range refs {
		id, err := s.ResolveUser(ctx, s.sys, l)
		add("ResolveUser", err, s.id(id))
	}
	defs, err := s.AttributeDefs(ctx, s.sys)
	add("AttributeDefs", err, inOrder(defs, defText))
	keys, err := s.AccessKeys(ctx, s.sys)
	add("AccessKeys", err, inOrder(keys, s.key))
	events, err := collect(s.Events(ctx, s.sys, ""))
	add("Events", err, inOrder(events, s.event))
	a.says, a.used = []string{strings.Join(says, "\n      ")}, used
	return a
}

// scriptClock is the time of a script. It goes on as the script says: by itself, or with the
// time of a bubble.
type scriptClock struct {
	sleeps  bool
	start   time.Time
	base    int64        // the time of the start
	passed  atomic.Int64 // these two are read in the background too
	ahead   atomic.Int64 // of the wall clock; never more than 0
	latest  int64        // what the wall clock last was
	restart bool         // whether a restart may believe a wall clock that is behind
}

const scriptStart = 946684800000 // when the time of every bubble starts

func (c *scriptClock) read() (wall, mono int64) {
	mono = c.passed.Load()
	if c.sleeps {
		mono = time.Since(c.start).Milliseconds()
	}
	return c.base + mono + c.ahead.Load(), mono
}

func (c *scriptClock) advance(d time.Duration) {
	if c.sleeps {
		time.Sleep(d)
		synctest.Wait() // for what happens in the background
	} else {
		c.passed.Add(d.Milliseconds())
	}
}

// shared hides that a store is for one directory alone, so that nothing of it is remembered.
type shared struct{ store.Store }

// stand is a directory over a store that can be closed and opened again.
type stand struct {
	*denizen.Directory
	clock  *scriptClock
	kind   string
	path   string // of a file
	stored store.Store
	now    *clock.Clock
}

func (d *stand) open() error {
	d.now = clock.New(func() (wall, mono int64) {
		wall, mono = d.clock.read()
		return wall * 1e6, mono * 1e6
	})
	o := denizen.Options{LocatorTypes: []denizen.LocatorRule{nicks}, MaySee: maySee, TokenTTL: modelTTL, MaxTokenTTL: modelLongest, FeedMaxAge: 10000 * time.Hour}
	if !d.clock.sleeps {
		o.HeartbeatInterval = 1000 * time.Hour // nothing happens behind the back of a script that is over at once
	}
	var err error
	switch {
	case d.kind == "bolt":
		d.stored, err = bolt.Open(ctx, d.path, bolt.Options{})
	case d.kind == "postgres":
		if d.stored == nil {
			d.stored, err = postgres.Open(ctx, pool(), postgres.Options{Schema: newSchema()})
		}
	case d.stored == nil:
		d.stored = memory.New()
	}
	if err != nil {
		return err
	}
	s := d.stored
	switch d.kind {
	case "following":
		o.MaxRevocationDelay = time.Hour
		fallthrough
	case "shared":
		s = shared{s}
	}
	d.Directory, err = denizen.New(clock.With(ctx, d.now), s, o)
	return err
}

func (d *stand) close() error {
	err := d.Directory.Close()
	if d.kind == "bolt" {
		err = errors.Join(err, d.stored.Close())
	}
	return err
}

func (d *stand) published() (least, most int) {
	keys, err := d.PublicKeys(ctx)
	if err != nil {
		return 0, 0
	}
	var set struct{ Keys []json.RawMessage }
	text, err := json.Marshal(keys)
	if err != nil || json.Unmarshal(text, &set) != nil {
		return 0, 0
	}
	return len(set.Keys), len(set.Keys)
}

func (d *stand) verify(signed string) (denizen.Claims, error) {
	keys, err := d.PublicKeys(ctx)
	if err != nil {
		return denizen.Claims{}, err
	}
	return denizen.Verifier{Keys: keys, Issuer: d.ID(), Audience: d.ApplicationID()}.Verify(signed)
}

// watched collects the failures of a check, which must not end the test before the script
// is shrunk.
type watched struct {
	testing.TB
	failures []string
}

func (w *watched) Helper() {}
func (w *watched) Errorf(format string, args ...any) {
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}
func (w *watched) FailNow() { panic(w) }

func failures(t testing.TB, check func(t testing.TB)) (failed string) {
	w := &watched{TB: t}
	defer func() {
		if r := recover(); r != nil && r != any(w) {
			panic(r)
		}
		failed = strings.Join(w.failures, "\n")
	}()
	check(w)
	return ""
}

// failure is where a directory and the model part.
type failure struct {
	step      int
	want, got string
	history   []string
}

// told is the script with what was returned beside it.
func (f *failure) told(s script) string {
	lines := strings.SplitAfter(s.String(), "\n")
	for i, h := range f.history {
		lines[i+1] = strings.TrimSuffix(lines[i+1], "\n") + " # " + strings.ReplaceAll(h, "\n", "\n\t# ") + "\n"
	}
	return strings.Join(lines, "")
}

// run runs a script over a kind of store and returns where it fails.
func run(t *testing.T, s script, kind, path string, seen outcomes) (f *failure) {
	if !s.sleeps || kind == "postgres" { // a connection is nothing that a bubble can wait for
		s.sleeps = false
		return play(t, s, kind, path, &scriptClock{base: scriptStart, restart: true}, seen)
	}
	synctest.Test(t, func(t *testing.T) {
		f = play(t, s, kind, path, &scriptClock{sleeps: true, start: time.Now(), base: scriptStart}, seen)
	})
	return f
}

var (
	modelOperations = operations[modelPrincipal]()
	realOperations  = operations[denizen.Principal]()
)

func play(t *testing.T, s script, kind, path string, c *scriptClock, seen outcomes) *failure {
	m := newModel(c.read)
	m.commits = kind == "shared" || kind == "following" || kind == "postgres"
	d := &stand{clock: c, kind: kind, path: path}
	var history []string
	differ := func(i int, want, got any) *failure {
		return &failure{step: i, want: fmt.Sprint(want), got: fmt.Sprint(got), history: history}
	}
	if err := d.open(); err != nil {
		return differ(0, "opened", err)
	}
	open := true
	defer func() {
		if open {
			_ = d.close()
		}
		_ = d.stored.Close()
	}()
	want := newSide[modelPrincipal](m, c, modelPrincipal{name: ".system"})
	want.published, want.verify, want.named = m.published, m.verify, asOperator
	want.cursor = modelCursor
	want.first = func(by modelPrincipal, after denizen.Cursor) (denizen.Event, error) {
		return firstOf(m.Follow(ctx, by, after))
	}
	got := newSide[denizen.Principal](d, c, denizen.System())
	got.published, got.verify, got.named = d.published, d.verify, denizen.Principal.Named
	got.first, got.cursor = d.first, d.cursor
	var last *invariant.Dump // what the store holds, if that is known
	for i, st := range s.steps {
		switch st.name {
		case "Advance":
			last = nil
			c.advance(anyOf(advances, st.args[0]))
			history = append(history, fmt.Sprint(anyOf(advances, st.args[0]), " pass"))
			continue
		case "SetWallClock":
			c.ahead.Store(-anyOf(setBacks, st.args[0]).Milliseconds())
			_, _ = m.now(), d.now.Now()
			history = append(history, fmt.Sprint("the wall clock is behind by ", -c.ahead.Load()))
			continue
		case "Reopen":
			last = nil
			if !c.restart {
				c.ahead.Store(0)
			}
			if err := d.close(); err != nil {
				return differ(i, "closed", err)
			}
			if err := d.open(); err != nil {
				return differ(i, "opened again", err)
			}
			m.reopen()
			history = append(history, "closed and opened again")
			continue
		}
		c.latest = m.now()
		k := slices.IndexFunc(modelOperations, func(o operation[modelPrincipal]) bool { return o.name == st.name })
		if k < 0 {
			return differ(i, "a step", st.name)
		}
		head, before := m.seq, last
		if kind == "memory" && before == nil {
			all := invariant.Of(t, d.stored)
			before = &all
		}
		want.op, got.op = st.name, st.name
		wanted := modelOperations[k].do(want, st)
		if wanted.says[0] == "waits" && !c.sleeps {
			history = append(history, wanted.String())
			continue // without a bubble nothing tells that it waits
		}
		answered := realOperations[k].do(got, st)
		history = append(history, wanted.String())
		seen.note(st.name, wanted.says[0])
		if !answered.meets(wanted) {
			return differ(i, fmt.Sprint(wanted, wanted.used), fmt.Sprint(answered, answered.used))
		}
		if kind == "memory" {
			after := invariant.Of(t, d.stored)
			last = &after
			commits := after.Feed.Head - before.Feed.Head
			if beats := strings.HasPrefix(st.name, "Set") && strings.HasSuffix(strings.TrimSuffix(st.name, "s"), "Presence"); beats && wanted.says[0] == "" {
				continue // a heartbeat may be kept in memory or not
			}
			if commits != store.Seq(m.seq-head) {
				return differ(i, fmt.Sprint(wanted, " in ", m.seq-head, " commits"), fmt.Sprint("in ", commits))
			}
			if commits == 0 && !reflect.DeepEqual(*before, after) {
				return differ(i, fmt.Sprint(wanted, " and nothing changed"), "the store changed")
			}
		}
	}
	open = false
	if err := d.close(); err != nil {
		return differ(len(s.steps), "closed", err)
	}
	if kind == "bolt" {
		var err error
		if d.stored, err = bolt.Open(ctx, path, bolt.Options{}); err != nil {
			return differ(len(s.steps), "opened", err)
		}
	}
	if failed := failures(t, func(t testing.TB) { invariant.Check(t, d.stored) }); failed != "" {
		return differ(len(s.steps), "what is true of a directory at rest", failed)
	}
	return nil
}

// firstOf returns what an iterator yields first.
func firstOf(events iter.Seq2[denizen.Event, error]) (denizen.Event, error) {
	for e, err := range events {
		return e, err
	}
	return denizen.Event{}, errors.New("yields nothing")
}

// cursor returns the cursor of an event, as it was yielded with it.
func (d *stand) cursor(seq denizen.Seq) denizen.Cursor {
	if seq == 0 {
		return ""
	}
	own, err := d.stored.Get(ctx, record.DirectoryKey)
	if err != nil {
		panic(err)
	}
	value, err := record.DecodeStored(own[0])
	if err != nil {
		panic(err)
	}
	at := record.Place{Epoch: value.(*record.Directory).Epoch, Seq: store.Seq(seq), Digest: 1}
	feed, err := d.stored.Changes(ctx, at.Seq-1, 1)
	if err == nil && len(feed.Changes) > 0 && feed.Changes[0].Seq == at.Seq {
		at.Digest = record.DigestOf(feed.Changes[0])
	}
	return denizen.Cursor(at.String())
}

// first returns what Follow yields first: errWouldWait if it still waits when there is nothing else
// to do.
func (d *stand) first(by denizen.Principal, after denizen.Cursor) (e denizen.Event, err error) {
	if !d.clock.sleeps {
		return firstOf(d.Follow(ctx, by, after))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e, err = firstOf(d.Follow(ctx, by, after))
	}()
	synctest.Wait()
	select {
	case <-ended:
		return e, err
	default:
	}
	cancel()
	<-ended
	return denizen.Event{}, errWouldWait
}

// newScript returns a random script. It mostly begins with some users, so that there is
// something to work on.
func newScript(r *rand.Rand) script {
	s := script{sleeps: r.IntN(4) == 0}
	add := func(name string, who int, args ...int) {
		if r.IntN(8) > 0 {
			st := step{name: name, who: who, args: [3]int{r.IntN(100), r.IntN(100), r.IntN(100)}}
			copy(st.args[:], args)
			s.steps = append(s.steps, st)
		}
	}
	for i := range 4 {
		add("DefineAttribute", 0, i)
	}
	for i := range 3 {
		add("CreateUser", 2*i+1, r.IntN(6), r.IntN(9), 0)
	}
	for i := range 3 {
		add("IssueToken", 2*i, 3*r.IntN(2))
		add("Authenticate", 0, 0, 2, i)
	}
	add("CreateAccessKey", 0)
	add("AuthenticateKey", 0, 0, 1, 3)
	add("ActAs", 2*r.IntN(3), 0, 0, 4)
	total := 0
	for _, o := range modelOperations {
		total += o.weight
	}
	for range 25 + r.IntN(25) {
		if len(s.steps) > 0 && r.IntN(6) == 0 {
			s.steps = append(s.steps, s.steps[r.IntN(len(s.steps))]) // the same again
			continue
		}
		n := r.IntN(total)
		for _, o := range modelOperations {
			if n -= o.weight; n < 0 {
				s.steps = append(s.steps, step{o.name, r.IntN(16), r.IntN(28), [3]int{r.IntN(100), r.IntN(100), r.IntN(100)}})
				switch last := s.steps[len(s.steps)-1]; o.name {
				case "RotateSigningKey":
					s.steps = append(s.steps, step{name: "Events"}, step{name: "DropSigningKey", args: [3]int{1 + r.IntN(20)}})
				case "DeleteUser", "MergeUsers":
					s.steps = append(s.steps, step{name: "CreateUser", who: last.who | 1, args: [3]int{r.IntN(6)}})
				case "SetAttribute":
					s.steps = append(s.steps, step{"RemoveAttribute", last.by, last.who, [3]int{last.args[0]}})
				case "SetPresence":
					s.steps = append(s.steps, step{name: "Advance", args: [3]int{r.IntN(8)}}, last)
				}
				break
			}
		}
	}
	s.steps = append(s.steps, step{name: "Audit"})
	return s
}

// shrink returns a script that still fails and has no step that could go.
func shrink(s script, fails func(script) bool) script {
	for again := true; again; {
		again = false
		for size := max(1, len(s.steps)/2); size >= 1; size /= 2 {
			for i := 0; i+size <= len(s.steps); {
				less := script{s.sleeps, slices.Delete(slices.Clone(s.steps), i, i+size)}
				if fails(less) {
					s, again = less, true
				} else {
					i++
				}
			}
		}
	}
	if awake := (script{steps: s.steps}); s.sleeps && fails(awake) {
		return awake
	}
	return s
}

// scriptStores are what a history must be the same over: following is one that is shared whose
// feed is followed, so that tokens are remembered.
var scriptStores = []struct {
	kind    string
	scripts int
}{{"memory", 2000}, {"shared", 800}, {"following", 800}, {"bolt", 200}, {"postgres", 60}}

// outcomes is what came of the operations in scripts, by their names.
type outcomes map[string]map[string]int

func (o outcomes) note(name, said string) {
	if o == nil {
		return
	}
	what := "done"
	for _, kind := range scriptKinds {
		if strings.HasPrefix(said, kind.Error()+"(") {
			what = kind.Error()
		}
	}
	if o[name] == nil {
		o[name] = map[string]int{}
	}
	o[name][what]++
}

// scriptKinds are the refusals that a script can meet: its stores do not fail.
var scriptKinds = []error{
	denizen.ErrInvalid, denizen.ErrUnauthenticated, denizen.ErrDenied, denizen.ErrNotFound, denizen.ErrTaken, denizen.ErrRevoked,
	denizen.ErrExpired, denizen.ErrLimited, denizen.ErrConflict, denizen.ErrMissed, denizen.ErrUnavailable,
}

func TestAScriptHasOneHistoryOverEveryStore(t *testing.T) {
	seed, times := scriptNumber(t, "DENIZEN_SEED", 1), scriptNumber(t, "DENIZEN_SCRIPTS", 1)
	var given *script
	if path := os.Getenv("DENIZEN_SCRIPT"); path != "" {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		s := parseScript(t, string(text))
		given = &s
	}
	for _, over := range scriptStores {
		t.Run(over.kind, func(t *testing.T) {
			if over.kind == "postgres" {
				requirePostgres(t)
			}
			t.Parallel()
			dir, files := long.Dir(t), 0
			try := func(s script) *failure {
				files++
				path := filepath.Join(dir, strconv.Itoa(files))
				defer os.Remove(path)
				return run(t, s, over.kind, path, nil)
			}
			n := over.scripts * int(times)
			if raceBuilt() {
				n /= 10
			} else {
				n /= long.Of(5, 1)
			}
			seen := outcomes{}
			for i := range n {
				s := newScript(rand.New(rand.NewPCG(seed, uint64(i))))
				if given != nil {
					s, n = *given, 1
				}
				f := run(t, s, over.kind, filepath.Join(dir, "first"), seen)
				_ = os.Remove(filepath.Join(dir, "first"))
				if f != nil {
					if shrunk := shrink(s, func(s script) bool { return try(s) != nil }); try(shrunk) != nil {
						s, f = shrunk, cmp.Or(try(shrunk), f)
					}
					t.Fatalf("seed %d, script %d, over %s\n%sthe model answered\n\t%s\nand the directory\n\t%s",
						seed, i, over.kind, f.told(s), f.want, f.got)
				}
				if given != nil {
					return
				}
			}
			if n >= 2000 {
				requireAllMet(t, seen)
			}
		})
	}
}

// raceBuilt reports whether the race detector is at work, which makes scripts slow.
func raceBuilt() bool {
	b, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(b.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
}

func scriptNumber(t *testing.T, env string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, env)
	return n
}

// requireAllMet holds the scripts to meeting everything: every method of Directory that does
// something, done and refused, and every kind of refusal.
func requireAllMet(t *testing.T, seen outcomes) {
	t.Helper()
	// Health and Stats tell of the machine, too. The others have models of their own, beside this one.
	without := []string{
		"ApplicationID", "Backup", "Close", "Compact", "Consumers", "DeleteConsumer", "ExportUser", "Head", "Health", "ID",
		"InTx", "LastActive", "Notify", "ProveLocator", "Rekey", "ResetConsumer", "Stats", "WatchPresence",
	}
	for m := range reflect.TypeFor[*denizen.Directory]().Methods() {
		if slices.Contains(without, m.Name) {
			continue
		}
		require.Greater(t, seen[m.Name]["done"], 10, "%s was hardly done", m.Name)
		if m.Name != "PublicKeys" {
			require.Greater(t, len(seen[m.Name]), 1, "%s was never refused", m.Name)
		}
	}
	for _, kind := range scriptKinds {
		n := 0
		for _, by := range seen {
			n += by[kind.Error()]
		}
		require.Positive(t, n, "%v was never met", kind)
	}
}

func TestAPrintedScriptReadsBackAsItWas(t *testing.T) {
	s := newScript(rand.New(rand.NewPCG(1, 1)))
	require.Equal(t, s, parseScript(t, (&failure{history: []string{"what was = answered\nof the first step"}}).told(s)))
}
