package spec_test

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/denizenhq/denizen"
)

// model is what a directory promises, over plain maps and slices. It is written from the
// documentation: one user is one value, a commit is an event, and nothing is remembered,
// retried, swept or stored. It has the methods of a Directory, so that one script drives
// both.
type model struct {
	commits bool                      // each heartbeat is stored at once, and what has run out is dropped then
	read    func() (wall, mono int64) // milliseconds
	ahead   int64                     // the most that wall was ahead of mono since the start
	seq     denizen.Seq               // of the last commit
	ids     int                       // counts what is random in a directory
	users   map[denizen.UserID]*modelUser
	defs    map[string]denizen.AttributeDef
	keys    []*modelKey
	deleted []string // access keys, oldest first
	ring    []*modelSigning
	nonces  map[string]bool
	born    map[string]modelCreation // by day and idempotency key
	texts   map[string]modelText     // every text that was ever signed
	events  []denizen.Event
	// forgotten is the last event that a trim took.
	forgotten denizen.Seq
	cursors   map[denizen.UserCursor]denizen.UserID
	rests     map[string]modelRest // by what the locator is unique by
}

type modelRest struct {
	user     denizen.UserID
	internal string
	until    int64
}

type modelUser struct {
	denizen.User
	attributes []denizen.Attribute
	version    denizen.ProfileVersion // of the attributes
	devices    []modelDevice
	tokens     []*modelToken
	resting    []modelResting // that it gave up and may come back to, as it knows
	changes    []int64        // until when each that it made can be undone, oldest first
	aliases    []modelAlias
	hidden     bool
	blocked    bool // as it was last written, whatever the time is
	block      denizen.Block
}

type modelAlias struct {
	id    denizen.UserID
	until int64 // 0 is never
}

type modelResting struct {
	unique string
	until  int64
}

type modelDevice struct {
	name  string
	start int64
	beat  int64              // the last heartbeat, 0 for none
	chain []denizen.Presence // one state each
}

type modelToken struct {
	denizen.Token
	latest int64
	texts  []string
	used   int64
}

type modelText struct {
	user     denizen.UserID
	internal string
	token    denizen.TokenID
	issued   int64
	expires  int64
	signed   *modelSigning
}

type modelKey struct {
	denizen.AccessKey
	secret string
	born   int
}

type modelSigning struct {
	id      string
	signs   int64
	needed  int64 // when the last text signed with it ends
	gone    int64 // from when it is certainly not published; 0: not known yet
	dropped bool
}

type modelCreation struct {
	digest, internal string
	user             denizen.UserID
	at               int64
}

// modelPrincipal is a principal of a model.
type modelPrincipal struct {
	name     string // "" is .anonymous
	user     denizen.UserID
	internal string
	token    denizen.TokenID
	key      string
	born     int
	operator string // "?" after a name that is none
}

func (p modelPrincipal) Operator() string       { return strings.TrimSuffix(p.operator, "?") }
func (p modelPrincipal) User() denizen.UserID   { return p.user }
func (p modelPrincipal) Token() denizen.TokenID { return p.token }
func (p modelPrincipal) AccessKey() string      { return p.key }
func (p modelPrincipal) IsSystem() bool         { return p.name == ".system" }
func (p modelPrincipal) IsAnonymous() bool      { return p.name == "" }
func (p modelPrincipal) MayParticipate() bool   { return p.user != "" }
func (p modelPrincipal) String() string         { return cmp.Or(p.name, ".anonymous") }

// nobody is the refusal of .anonymous.
func (p modelPrincipal) nobody() error {
	if p.operator == "?" {
		return refused(denizen.ErrInvalid, "operator")
	}
	return refused(denizen.ErrDenied, "")
}

// either is an error of which the documentation leaves open which it is.
type either [2]error

func (e either) Error() string { return e[0].Error() + " or " + e[1].Error() }

// errWouldWait says that a Wait would not return yet.
var errWouldWait = errors.New("would wait")

func refused(kind error, field string) error { return &denizen.Error{Kind: kind, Field: field} }

func newModel(read func() (wall, mono int64)) *model {
	m := &model{
		read: read, users: map[denizen.UserID]*modelUser{}, defs: map[string]denizen.AttributeDef{}, nonces: map[string]bool{}, rests: map[string]modelRest{},
		born: map[string]modelCreation{}, texts: map[string]modelText{}, cursors: map[denizen.UserCursor]denizen.UserID{},
	}
	m.reopen()
	m.ring = []*modelSigning{{id: m.id(), signs: m.now()}}
	m.commit(modelPrincipal{name: ".system"}, denizen.EventDirectoryFounded, nil)
	return m
}

// reopen is all that is left of the past: nothing of the clock, everything else.
func (m *model) reopen() {
	wall, mono := m.read()
	m.ahead = wall - mono
}

func (m *model) now() int64 {
	wall, mono := m.read()
	m.ahead = max(m.ahead, wall-mono)
	return mono + m.ahead
}

// id returns what is random in a directory. In this form it comes before every id that the
// scripts give, as UUIDs of version 7 do, and later ones come later.
func (m *model) id() string {
	m.ids++
	return fmt.Sprintf("00000000-%08d", m.ids)
}

func (m *model) commit(by modelPrincipal, what denizen.EventKind, u *modelUser, subjects ...string) denizen.UserVersion {
	m.seq++
	e := denizen.Event{
		Seq: m.seq, At: time.UnixMilli(m.now()), Kind: what, Actor: by.String(), AccessKey: by.key, Operator: by.operator, Subjects: subjects,
	}
	if u != nil {
		e.User, e.InternalID = u.ID, u.InternalID
	}
	m.events = append(m.events, e)
	return denizen.UserVersion(m.seq)
}

// Who may do what: the letters of the wire contract, and A for any user about anything.

// enter refuses by, unless who names it for what it asks of target. No target is none.
func (m *model) enter(who string, what denizen.Facet, by modelPrincipal, target denizen.UserID) error {
	m.lapse()
	denied := refused(denizen.ErrDenied, "")
	var letter string
	switch {
	case by.IsAnonymous():
		return by.nobody()
	case by.IsSystem():
		letter = "S"
	case by.user == target:
		letter = "U"
	default:
		letter = "P"
		if strings.Contains(who, "A") {
			letter = "A"
		}
	}
	if !strings.Contains(who, letter) {
		return denied
	}
	if (target != "" || letter == "P") && !validID(target) {
		return refused(denizen.ErrInvalid, "user")
	}
	if letter != "P" {
		return nil
	}
	may, err := maySee(context.Background(), by.user, target, what)
	if err != nil {
		return refused(denizen.ErrUnavailable, "")
	}
	if !may {
		return denied
	}
	return nil
}

func validID(id denizen.UserID) bool {
	if len(id) < 8 || len(id) > 72 || strings.ContainsAny(string(id[:1]), "-_$") {
		return false
	}
	return !strings.ContainsFunc(string(id), func(r rune) bool {
		return !(r <= 'z' && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("-_@$#", r))
	})
}

// stands refuses a principal that is not any longer what it was.
func (m *model) stands(by modelPrincipal) error {
	revoked := refused(denizen.ErrRevoked, "")
	if by.user != "" {
		if u := m.users[by.user]; u == nil || u.Blocked || u.InternalID != by.internal {
			return revoked
		}
	}
	if by.key != "" && m.key(by.key, by.born) == nil {
		return revoked
	}
	return nil
}

func (m *model) key(key string, born int) *modelKey {
	for _, k := range m.keys {
		if k.Key == key && (k.born == born || born == 0) {
			return k
		}
	}
	return nil
}

// about is enter for an operation about a user who must be there.
func (m *model) about(who string, what denizen.Facet, by modelPrincipal, target denizen.UserID) (*modelUser, error) {
	if err := m.enter(who, what, by, target); err != nil {
		return nil, err
	}
	return m.user(by, target)
}

func (m *model) user(by modelPrincipal, target denizen.UserID) (*modelUser, error) {
	if err := m.stands(by); err != nil {
		return nil, err
	}
	if m.users[target] == nil {
		return nil, refused(denizen.ErrNotFound, "user")
	}
	return m.users[target], nil
}

// seen is user for the methods that peers may call: to a peer nobody is there who is blocked.
func (m *model) seen(by modelPrincipal, target denizen.UserID) (*modelUser, error) {
	u, err := m.user(by, target)
	if err == nil && u.Blocked && !by.IsSystem() && by.user != target {
		return nil, refused(denizen.ErrNotFound, "user")
	}
	return u, err
}

// system is enter for what only .system may, about no user.
func (m *model) system(by modelPrincipal) error { return m.enter("S", 0, by, "") }

func expected[V comparable](versions []V, is V) error {
	for _, v := range versions {
		if v != is {
			return refused(denizen.ErrConflict, "version")
		}
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Users.

func (m *model) CreateUser(_ context.Context, by modelPrincipal, n denizen.NewUser) (denizen.User, error) {
	if err := m.system(by); err != nil {
		return denizen.User{}, err
	}
	if n.ID != "" && !validID(n.ID) {
		return denizen.User{}, refused(denizen.ErrInvalid, "id")
	}
	if !validScreenName(n.ScreenName) {
		return denizen.User{}, refused(denizen.ErrInvalid, "screenName")
	}
	if len(n.Locators) > denizen.MaxLocators {
		return denizen.User{}, refused(denizen.ErrLimited, "locators")
	}
	now := m.now()
	u := &modelUser{User: denizen.User{
		ID: cmp.Or(n.ID, denizen.UserID(m.id())), InternalID: m.id(), ScreenName: n.ScreenName,
		CreatedAt: time.UnixMilli(now), UpdatedAt: time.UnixMilli(now),
	}}
	for _, given := range n.Locators {
		l, err := m.locator(given)
		if err := first(early(given, true), err); err != nil {
			return denizen.User{}, err
		}
		if u.has(l) >= 0 || u.alike(l) {
			return denizen.User{}, refused(denizen.ErrInvalid, "locators")
		}
		l.Owned = true
		u.Locators = append(u.Locators, l)
		if u.nicks() > 2 {
			return denizen.User{}, refused(denizen.ErrLimited, "locators")
		}
	}
	i := n.Idempotency
	if (i != denizen.Idempotency{}) && (i.Key == "" || i.Digest == "") {
		return denizen.User{}, refused(denizen.ErrInvalid, "idempotency")
	}
	if err := m.stands(by); err != nil {
		return denizen.User{}, err
	}
	const day = 24 * 60 * 60 * 1000
	born := func(days int64) string { return fmt.Sprintln(now/day-days, i.Key) }
	earlier, ok := m.born[born(0)]
	if !ok {
		earlier, ok = m.born[born(1)]
	}
	if ok && now-earlier.at < day {
		switch same := m.users[earlier.user]; {
		case earlier.user == "": // was erased
			return denizen.User{}, refused(denizen.ErrNotFound, "user")
		case earlier.digest != i.Digest:
			return denizen.User{}, refused(denizen.ErrConflict, "idempotency")
		case same == nil || same.InternalID != earlier.internal:
			return denizen.User{}, refused(denizen.ErrNotFound, "user")
		default:
			return same.shown(), nil
		}
	}
	if _, err := m.patch(by, u, n.Attributes, denizen.Merge); err != nil {
		return denizen.User{}, err
	}
	if m.users[u.ID] != nil || m.alias(u.ID) != nil {
		return denizen.User{}, refused(denizen.ErrTaken, "id")
	}
	for i := range u.Locators {
		if err := m.take(&u.Locators[i], u, n.Locators[i].Override); err != nil {
			return denizen.User{}, err
		}
	}
	for _, other := range m.users { // what is over does not come back where the clock goes back
		other.aliases = slices.DeleteFunc(slices.Clone(other.aliases), func(a modelAlias) bool { return a.id == u.ID })
	}
	m.users[u.ID] = u
	u.Version = m.commit(by, denizen.EventUserCreated, u)
	if len(u.attributes) > 0 {
		u.version = denizen.ProfileVersion(u.Version)
	}
	if i.Key != "" {
		m.born[born(0)] = modelCreation{digest: i.Digest, user: u.ID, internal: u.InternalID, at: now}
	}
	return u.shown(), nil
}

// validScreenName knows the rules that the scripts break.
func validScreenName(s string) bool {
	return utf8.ValidString(s) && strings.TrimSpace(s) != "" && utf8.RuneCountInString(s) <= 128 && !strings.ContainsFunc(s, unicode.IsControl)
}

// shown returns a copy.
func (u *modelUser) shown() denizen.User {
	shown := u.User
	shown.Locators = slices.Clone(u.Locators)
	return shown
}

func (m *model) User(_ context.Context, by modelPrincipal, id denizen.UserID) (denizen.User, error) {
	users, err := m.UsersByID(context.Background(), by, []denizen.UserID{id})
	if err != nil {
		return denizen.User{}, err
	}
	return users[0], nil
}

func (m *model) UsersByID(_ context.Context, by modelPrincipal, ids []denizen.UserID) ([]denizen.User, error) {
	users, err := m.all(denizen.FacetScreenName, by, ids)
	var shown []denizen.User
	for _, u := range users {
		if by.IsSystem() || by.user == u.ID {
			shown = append(shown, u.shown())
		} else {
			shown = append(shown, denizen.User{ID: u.ID, ScreenName: u.ScreenName})
		}
	}
	return shown, err
}

// all is about for several users: all of them or none.
func (m *model) all(what denizen.Facet, by modelPrincipal, ids []denizen.UserID) (users []*modelUser, err error) {
	if by.IsAnonymous() {
		return nil, by.nobody()
	}
	for _, id := range ids {
		if err := m.enter("SUP", what, by, id); err != nil {
			return nil, err
		}
	}
	if err := m.stands(by); err != nil {
		return nil, err
	}
	for _, id := range ids {
		u, err := m.seen(by, id)
		if err != nil {
			return nil, err
		}
		users = append(users, u)
	}
	return users, nil
}

func (m *model) ResolveUser(_ context.Context, by modelPrincipal, ref string) (denizen.UserID, error) {
	if err := first(m.enter("SA", 0, by, ""), m.stands(by)); err != nil {
		return "", err
	}
	if ref == "me" {
		if by.user == "" {
			return "", refused(denizen.ErrDenied, "user")
		}
		return by.user, nil
	}
	if !strings.Contains(ref, ":") {
		if !validID(denizen.UserID(ref)) {
			return "", refused(denizen.ErrInvalid, "user")
		}
		if u := m.alias(denizen.UserID(ref)); u != nil && by.IsSystem() {
			return u.ID, nil
		}
		return denizen.UserID(ref), nil
	}
	s, ok := spellings[ref]
	if !ok {
		return "", refused(denizen.ErrInvalid, "locator")
	}
	switch u := m.owner(denizen.Locator{Canonical: s.canonical}); {
	case u != nil && (by.IsSystem() || by.user == u.ID):
		return u.ID, nil
	case by.IsSystem():
		return "", refused(denizen.ErrNotFound, "locator")
	}
	return "", refused(denizen.ErrDenied, "")
}

func (m *model) UsersByLocator(_ context.Context, by modelPrincipal, locators []string) (users []denizen.User, err error) {
	if err := m.system(by); err != nil {
		return nil, err
	}
	for _, l := range locators {
		if _, ok := spellings[l]; !ok {
			return nil, refused(denizen.ErrInvalid, "locator")
		}
	}
	if err := m.stands(by); err != nil {
		return nil, err
	}
	for _, l := range locators {
		u := m.owner(denizen.Locator{Canonical: spellings[l].canonical})
		if u != nil && !slices.ContainsFunc(users, func(o denizen.User) bool { return o.ID == u.ID }) {
			users = append(users, u.shown())
		}
	}
	return users, nil
}

func (m *model) Locate(_ context.Context, by modelPrincipal, locators ...string) (ids []denizen.UserID, err error) {
	if err := m.system(by); err != nil {
		return nil, err
	}
	for _, l := range locators {
		if _, ok := spellings[l]; !ok {
			return nil, refused(denizen.ErrInvalid, "locator")
		}
	}
	if err := m.stands(by); err != nil {
		return nil, err
	}
	for _, l := range locators {
		id := denizen.UserID("")
		if u := m.owner(denizen.Locator{Canonical: spellings[l].canonical}); u != nil {
			id = u.ID
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// CheckLocators finds nothing: the scripts have one version of one rule.
func (m *model) CheckLocators(_ context.Context, by modelPrincipal) iter.Seq2[denizen.LocatorChange, error] {
	return func(yield func(denizen.LocatorChange, error) bool) {
		if err := first(m.system(by), m.stands(by)); err != nil {
			yield(denizen.LocatorChange{}, err)
		}
	}
}

func (m *model) RekeyLocators(_ context.Context, by modelPrincipal) iter.Seq2[denizen.LocatorChange, error] {
	return m.CheckLocators(ctx, by)
}

func (m *model) Users(_ context.Context, by modelPrincipal, q denizen.UserQuery) (page denizen.UserPage, err error) {
	if err := m.system(by); err != nil {
		return page, err
	}
	if q.Limit < 0 || q.Limit > denizen.MaxPage {
		return page, refused(denizen.ErrInvalid, "limit")
	}
	after, made := m.cursors[q.After]
	if q.After != "" && !made {
		return page, refused(denizen.ErrInvalid, "after")
	}
	if err := m.stands(by); err != nil {
		return page, err
	}
	for _, id := range slices.Sorted(maps.Keys(m.users)) {
		if id <= after {
			continue
		}
		if len(page.Users) == cmp.Or(q.Limit, denizen.MaxPage) {
			page.Next = denizen.UserCursor("after " + page.Users[len(page.Users)-1].ID)
			m.cursors[page.Next] = page.Users[len(page.Users)-1].ID
			break
		}
		page.Users = append(page.Users, m.users[id].shown())
	}
	return page, nil
}

func (m *model) AllUsers(ctx context.Context, by modelPrincipal) iter.Seq2[denizen.User, error] {
	return func(yield func(denizen.User, error) bool) {
		page, err := m.Users(ctx, by, denizen.UserQuery{})
		for _, u := range page.Users {
			if !yield(u, nil) {
				return
			}
		}
		if err != nil {
			yield(denizen.User{}, err)
		}
	}
}

func (m *model) CountUsers(_ context.Context, by modelPrincipal) (int, error) {
	return len(m.users), first(m.system(by), m.stands(by))
}

// edited is what every change of a user's own record does to it.
func (m *model) edited(by modelPrincipal, what denizen.EventKind, u *modelUser, subjects ...string) {
	u.Version = m.commit(by, what, u, subjects...)
	u.blocked, u.block = u.Blocked, u.Block
	u.UpdatedAt = time.UnixMilli(m.now())
}

func (m *model) SetScreenName(_ context.Context, by modelPrincipal, id denizen.UserID, name string, versions ...denizen.UserVersion) (denizen.User, error) {
	if err := m.enter("SU", 0, by, id); err != nil {
		return denizen.User{}, err
	}
	if !validScreenName(name) {
		return denizen.User{}, refused(denizen.ErrInvalid, "screenName")
	}
	u, err := m.user(by, id)
	if err != nil {
		return denizen.User{}, err
	}
	if err := expected(versions, u.Version); err != nil {
		return denizen.User{}, err
	}
	if u.ScreenName != name {
		u.ScreenName = name
		m.edited(by, denizen.EventUserRenamed, u)
	}
	return u.shown(), nil
}

func (m *model) BlockUser(_ context.Context, by modelPrincipal, id denizen.UserID, b denizen.Block, versions ...denizen.UserVersion) (denizen.User, error) {
	if err := m.enter("S", 0, by, id); err != nil {
		return denizen.User{}, err
	}
	if len(b.Reason) > 1024 {
		return denizen.User{}, refused(denizen.ErrInvalid, "reason")
	}
	if !b.Until.IsZero() && b.Until.UnixMilli() <= m.now() {
		return denizen.User{}, refused(denizen.ErrInvalid, "until")
	}
	return m.block(by, id, true, b, denizen.EventUserBlocked, versions)
}

func (m *model) UnblockUser(_ context.Context, by modelPrincipal, id denizen.UserID, versions ...denizen.UserVersion) (denizen.User, error) {
	return m.block(by, id, false, denizen.Block{}, denizen.EventUserUnblocked, versions)
}

// lapse ends the blocks whose time is over. Nothing else happens then.
func (m *model) lapse() {
	for _, u := range m.users {
		u.Blocked, u.Block = u.blocked, u.block
		if until := u.block.Until; !until.IsZero() && until.UnixMilli() <= m.now() {
			u.Blocked, u.Block = false, denizen.Block{}
		}
	}
}

// letIn is what a commit that gives a user a token or a presence does to a block that is over.
func (m *model) letIn(u *modelUser) {
	if u.blocked {
		u.blocked, u.block, u.Version = false, denizen.Block{}, denizen.UserVersion(m.seq)
	}
}

func (m *model) block(by modelPrincipal, id denizen.UserID, blocked bool, b denizen.Block, what denizen.EventKind, versions []denizen.UserVersion) (denizen.User, error) {
	u, err := m.about("S", 0, by, id)
	if err != nil {
		return denizen.User{}, err
	}
	if err := expected(versions, u.Version); err != nil {
		return denizen.User{}, err
	}
	if u.Blocked != blocked || u.Block.Reason != b.Reason || !u.Block.Until.Equal(b.Until) {
		u.Blocked, u.Block, u.tokens, u.devices = blocked, b, nil, nil
		m.edited(by, what, u)
	}
	return u.shown(), nil
}

// EraseUser is DeleteUser, and makes what was asked by an idempotency key answer like that of a
// user who was deleted, whatever is asked.
func (m *model) EraseUser(_ context.Context, by modelPrincipal, id denizen.UserID, versions ...denizen.UserVersion) (denizen.Erasure, error) {
	u, err := m.about("S", 0, by, id)
	if err != nil {
		return denizen.Erasure{}, err
	}
	if err := expected(versions, u.Version); err != nil {
		return denizen.Erasure{}, err
	}
	removed := map[string]int{}
	count := func(kind string, n int) {
		if n > 0 {
			removed[kind] += n
		}
	}
	for _, l := range u.Locators {
		if l.Owned {
			count("locators", 1)
		} else {
			count("claims", 1)
		}
	}
	count("attributes", len(u.attributes))
	count("aliases", len(m.liveAliases(u)))
	for _, r := range u.resting {
		if rest := m.rests[r.unique]; rest.user == u.ID && rest.internal == u.InternalID && m.now() < rest.until {
			count("restingLocators", 1)
			m.rests[r.unique] = modelRest{until: rest.until}
		}
	}
	for key, c := range m.born {
		if c.user == u.ID && c.internal == u.InternalID {
			m.born[key] = modelCreation{at: c.at}
		}
	}
	m.delete(by, u, denizen.EventUserErased)
	return denizen.Erasure{User: u.ID, InternalID: u.InternalID, ErasedAt: time.UnixMilli(m.now()), Removed: removed}, nil
}

func (m *model) DeleteUser(_ context.Context, by modelPrincipal, id denizen.UserID, versions ...denizen.UserVersion) error {
	u, err := m.about("S", 0, by, id)
	if err != nil {
		return err
	}
	if err := expected(versions, u.Version); err != nil {
		return err
	}
	m.delete(by, u, denizen.EventUserDeleted)
	return nil
}

// alias returns the user that an id leads to, nil if it is no alias.
func (m *model) alias(id denizen.UserID) *modelUser {
	for _, u := range m.users {
		if slices.ContainsFunc(m.liveAliases(u), func(a modelAlias) bool { return a.id == id }) {
			return u
		}
	}
	return nil
}

func (m *model) liveAliases(u *modelUser) (live []modelAlias) {
	for _, a := range u.aliases {
		if a.until == 0 || a.until > m.now() {
			live = append(live, a)
		}
	}
	return live
}

// pair returns two users who must both be there.
func (m *model) pair(by modelPrincipal, a, b denizen.UserID) (*modelUser, *modelUser, error) {
	if err := m.stands(by); err != nil {
		return nil, nil, err
	}
	if m.users[a] == nil || m.users[b] == nil {
		return nil, nil, refused(denizen.ErrNotFound, "user")
	}
	return m.users[a], m.users[b], nil
}

func (m *model) MergeUsers(_ context.Context, by modelPrincipal, from, into denizen.UserID, policy denizen.MergePolicy) (denizen.User, error) {
	if err := m.enter("S", 0, by, from); err != nil {
		return denizen.User{}, err
	}
	switch {
	case !validID(into) || into == from:
		return denizen.User{}, refused(denizen.ErrInvalid, "into")
	case policy.Attributes > denizen.RefuseConflicts:
		return denizen.User{}, refused(denizen.ErrInvalid, "attributes")
	case policy.Alias < 0:
		return denizen.User{}, refused(denizen.ErrInvalid, "alias")
	}
	gone, u, err := m.pair(by, from, into)
	if err != nil {
		return denizen.User{}, err
	}
	if gone.Blocked || u.Blocked {
		return denizen.User{}, refused(denizen.ErrDenied, "user")
	}
	m.undoable(gone)
	m.undoable(u)
	if len(gone.changes)+len(u.changes) > 0 {
		return denizen.User{}, refused(denizen.ErrDenied, "user")
	}
	next := *u
	var moved []string
	for _, l := range gone.Locators {
		if !l.Owned {
			continue
		}
		if err := next.adopt(l); err != nil {
			return denizen.User{}, err
		}
		moved = append(moved, string(l.ID))
	}
	next.attributes = slices.Clone(u.attributes)
	changed := false
	for _, a := range gone.attributes {
		switch i := next.attribute(a.Key); {
		case i < 0:
			next.attributes, changed = append(next.attributes, a), true
		case next.attributes[i] == a:
		case policy.Attributes == denizen.RefuseConflicts:
			return denizen.User{}, refused(denizen.ErrTaken, "attribute")
		case policy.Attributes == denizen.TakeFrom:
			next.attributes[i], changed = a, true
		}
	}
	slices.SortFunc(next.attributes, func(a, b denizen.Attribute) int { return cmp.Compare(a.Key, b.Key) })
	now := m.now()
	slices.SortFunc(gone.devices, func(a, b modelDevice) int { return cmp.Compare(a.name, b.name) })
	for _, d := range gone.devices {
		if active, _ := d.at(now); active == len(d.chain) {
			continue
		}
		if i := slices.IndexFunc(next.devices, func(o modelDevice) bool { return o.name == d.name }); i >= 0 {
			o := next.devices[i]
			if active, _ := o.at(now); active < len(o.chain) && max(o.start, o.beat) >= max(d.start, d.beat) {
				continue
			}
		}
		next.devices = withDevice(slices.Clone(next.devices), d, now)
	}
	next.hidden = u.hidden || gone.hidden
	next.aliases = append(m.liveAliases(u), m.liveAliases(gone)...)
	if policy.Alias != 0 {
		a := modelAlias{id: from}
		if policy.Alias != denizen.Forever {
			a.until = now + policy.Alias.Milliseconds()
		}
		next.aliases = append(next.aliases, a)
	}
	if len(next.aliases) > denizen.MaxAliases {
		return denizen.User{}, refused(denizen.ErrLimited, "aliases")
	}
	*u = next
	u.blocked, u.block = false, denizen.Block{}
	delete(m.users, from)
	for _, r := range gone.resting {
		if rest := m.rests[r.unique]; rest.user == gone.ID && rest.internal == gone.InternalID {
			m.rests[r.unique] = modelRest{until: rest.until}
		}
	}
	for key, c := range m.born {
		if c.user == gone.ID && c.internal == gone.InternalID {
			m.born[key] = modelCreation{at: c.at}
		}
	}
	u.UpdatedAt = time.UnixMilli(now)
	u.Version = m.commit(by, denizen.EventUserMerged, gone, moved...)
	m.events[len(m.events)-1].Other = into
	if changed {
		u.version = denizen.ProfileVersion(u.Version)
	}
	return u.shown(), nil
}

// adopt gives u a locator that another user owns, or refuses and leaves it half done.
func (u *modelUser) adopt(l denizen.Locator) error {
	u.Locators = slices.DeleteFunc(slices.Clone(u.Locators), func(o denizen.Locator) bool { return o.Canonical == l.Canonical })
	u.Locators = append(u.Locators, l)
	if u.owned() > denizen.MaxLocators || l.Type == nick && u.nicks() > 2 {
		return refused(denizen.ErrLimited, "locators")
	}
	return nil
}

func (m *model) MoveLocator(_ context.Context, by modelPrincipal, from denizen.UserID, id denizen.LocatorID, to denizen.UserID) (denizen.Locator, error) {
	if err := m.enter("S", 0, by, from); err != nil {
		return denizen.Locator{}, err
	}
	if !validID(to) || to == from {
		return denizen.Locator{}, refused(denizen.ErrInvalid, "to")
	}
	loser, u, err := m.pair(by, from, to)
	if err != nil {
		return denizen.Locator{}, err
	}
	i, err := loser.locator(id)
	if err != nil {
		return denizen.Locator{}, err
	}
	l := loser.Locators[i]
	if !l.Owned {
		return denizen.Locator{}, refused(denizen.ErrInvalid, "locator")
	}
	winner := *u
	if err := winner.adopt(l); err != nil {
		return denizen.Locator{}, err
	}
	*u = winner
	loser.Locators = slices.Delete(slices.Clone(loser.Locators), i, i+1)
	m.edited(by, denizen.EventLocatorMoved, loser, string(id))
	m.events[len(m.events)-1].Other = to
	u.Version, u.UpdatedAt = loser.Version, loser.UpdatedAt
	u.blocked, u.block = u.Blocked, u.Block
	return l, nil
}

func (m *model) delete(by modelPrincipal, u *modelUser, what denizen.EventKind) {
	delete(m.users, u.ID)
	for _, l := range u.Locators {
		if l.Owned {
			m.rest(l, u)
		}
	}
	m.commit(by, what, u)
}

// Locators.

// owner returns who owns a locator.
func (m *model) owner(l denizen.Locator) *modelUser {
	for _, u := range m.users {
		if i := u.has(l); i >= 0 && u.Locators[i].Owned {
			return u
		}
	}
	return nil
}

func (u *modelUser) has(l denizen.Locator) int {
	return slices.IndexFunc(u.Locators, func(o denizen.Locator) bool { return o.Canonical == l.Canonical })
}

const nick denizen.LocatorType = "nick"

// unique returns what a locator is unique by.
func unique(l denizen.Locator) string {
	if l.Type != nick {
		return string(l.Type) + ":" + l.Canonical
	}
	return strings.ReplaceAll(l.Canonical, "0", "o")
}

// alike reports whether u has a nick that cannot be told apart from l.
func (u *modelUser) alike(l denizen.Locator) bool {
	return l.Type == nick && slices.ContainsFunc(u.Locators, func(o denizen.Locator) bool { return o.Type == nick && unique(o) == unique(l) })
}

// nicks counts u's nicks.
func (u *modelUser) nicks() (n int) {
	for _, l := range u.Locators {
		if l.Type == nick {
			n++
		}
	}
	return n
}

// liveRests returns how many names that u gave up rest.
func (m *model) liveRests(u *modelUser) (n int) {
	for _, r := range u.resting {
		if r.until > m.now() {
			n++
		}
	}
	return n
}

// rest lets a nick rest that u gave up, unless u has another that cannot be told apart from it.
func (m *model) rest(l denizen.Locator, u *modelUser) {
	if l.Type != nick || u != nil && m.users[u.ID] == u && u.alike(l) {
		return
	}
	until := m.now() + nickRest.Milliseconds()
	u.resting = slices.DeleteFunc(u.resting, func(r modelResting) bool { return r.until <= m.now() })
	if len(u.resting) >= 4 || m.users[u.ID] != u {
		m.rests[unique(l)] = modelRest{until: until} // nobody's
		return
	}
	u.resting = append(u.resting, modelResting{unique(l), until})
	slices.SortStableFunc(u.resting, func(a, b modelResting) int { return cmp.Compare(a.until, b.until) })
	m.rests[unique(l)] = modelRest{u.ID, u.InternalID, until}
}

// asleep reports whether a locator rests, and u may not come back to it without a proof.
func (m *model) asleep(l denizen.Locator, u *modelUser) bool {
	r, ok := m.rests[unique(l)]
	return ok && m.now() < r.until && (l.Type != nick || r.user != u.ID || r.internal != u.InternalID)
}

// undoable drops what u can no longer undo.
func (m *model) undoable(u *modelUser) {
	u.changes = slices.DeleteFunc(u.changes, func(until int64) bool { return until <= m.now() })
}

// mayChange refuses a user whose token ended, while there is something to undo: nobody knows by what
// it was got.
func (m *model) mayChange(by modelPrincipal, u *modelUser) error {
	if m.undoable(u); by.token == "" || len(u.changes) == 0 {
		return nil
	}
	if !slices.ContainsFunc(m.live(u), func(t *modelToken) bool { return t.ID == by.token }) {
		return refused(denizen.ErrRevoked, "token")
	}
	return nil
}

func (m *model) CancelUndo(_ context.Context, by modelPrincipal, id denizen.UserID) error {
	u, err := m.about("S", 0, by, id)
	if err != nil {
		return err
	}
	if m.undoable(u); len(u.changes) > 0 {
		u.changes = nil
		m.edited(by, denizen.EventUndoCancelled, u)
	}
	return nil
}

// known reports whether u knows a nick as one of its own that rests.
func (u *modelUser) knows(l denizen.Locator) int {
	return slices.IndexFunc(u.resting, func(r modelResting) bool { return l.Type == nick && r.unique == unique(l) })
}

func (u *modelUser) owned() (n int) {
	for _, l := range u.Locators {
		if l.Owned {
			n++
		}
	}
	return n
}

var statuses = []denizen.VerificationStatus{
	denizen.Verified, denizen.Unverified, denizen.StatusNotProvided, denizen.VerificationPending, denizen.VerificationNotApplicable,
}

// locator returns a new locator of .system's.
func (m *model) locator(n denizen.NewLocator) (denizen.Locator, error) {
	if strings.HasPrefix(n.Locator, "nick:") {
		s, ok := spellings[n.Locator]
		switch {
		case n.Status != "" && !slices.Contains(statuses, n.Status):
			return denizen.Locator{}, refused(denizen.ErrInvalid, "verificationStatus")
		case !ok || !s.valid && !n.Override:
			return denizen.Locator{}, refused(denizen.ErrInvalid, "locator")
		case n.Status != "" && n.Status != denizen.VerificationNotApplicable:
			return denizen.Locator{}, refused(denizen.ErrInvalid, "verificationStatus")
		}
		raw := n.Locator[len("nick:"):]
		return denizen.Locator{
			ID: denizen.LocatorID(m.id()), Type: nick, Address: raw, Raw: raw, Canonical: s.canonical, AddedAt: time.UnixMilli(m.now()),
			Status: denizen.VerificationNotApplicable, RuleVersion: 1,
		}, nil
	}
	n.Status = cmp.Or(n.Status, denizen.StatusNotProvided)
	if !slices.Contains(statuses, n.Status) {
		return denizen.Locator{}, refused(denizen.ErrInvalid, "verificationStatus")
	}
	s := spellings[n.Locator]
	if !s.valid {
		return denizen.Locator{}, refused(denizen.ErrInvalid, "locator")
	}
	kind, address, _ := strings.Cut(n.Locator, ":")
	raw := address
	if kind == "tele" {
		address = s.canonical
	}
	l := denizen.Locator{
		ID: denizen.LocatorID(m.id()), Type: denizen.LocatorType(kind), Address: address, Raw: raw, Canonical: s.canonical, AddedAt: time.UnixMilli(m.now()),
	}
	m.setStatus(&l, n.Status)
	return l, nil
}

func (m *model) setStatus(l *denizen.Locator, status denizen.VerificationStatus) {
	l.Status = status
	if status == denizen.Verified {
		l.VerifiedAt = time.UnixMilli(m.now())
	}
}

func (m *model) Locators(_ context.Context, by modelPrincipal, id denizen.UserID) ([]denizen.Locator, error) {
	u, err := m.about("SU", 0, by, id)
	if err != nil {
		return nil, err
	}
	return slices.Clone(u.Locators), nil
}

func (m *model) Locator(_ context.Context, by modelPrincipal, id denizen.UserID, locator denizen.LocatorID) (denizen.Locator, error) {
	u, err := m.about("SU", 0, by, id)
	if err != nil {
		return denizen.Locator{}, err
	}
	i, err := u.locator(locator)
	if err != nil {
		return denizen.Locator{}, err
	}
	return u.Locators[i], nil
}

func (m *model) RevealLocator(_ context.Context, by modelPrincipal, id denizen.UserID, locator denizen.LocatorID) (denizen.Locator, error) {
	u, err := m.about("S", 0, by, id)
	if err != nil {
		return denizen.Locator{}, err
	}
	i, err := u.locator(locator)
	if err != nil {
		return denizen.Locator{}, err
	}
	m.commit(by, denizen.EventLocatorRevealed, u, string(locator))
	return u.Locators[i], nil
}

func (u *modelUser) locator(id denizen.LocatorID) (int, error) {
	i := slices.IndexFunc(u.Locators, func(l denizen.Locator) bool { return l.ID == id })
	if i < 0 {
		return 0, refused(denizen.ErrNotFound, "locator")
	}
	return i, nil
}

// take makes a locator u's own, unless it is another's, looks like another's or rests.
func (m *model) take(l *denizen.Locator, u *modelUser, override bool) error {
	if owner := m.owner(*l); owner != nil && owner != u {
		return refused(denizen.ErrTaken, "locator")
	}
	l.Owned = true
	for _, other := range m.users {
		if other != u && other.alike(*l) {
			return refused(denizen.ErrTaken, "locator")
		}
	}
	if m.asleep(*l, u) && !override {
		return refused(denizen.ErrTaken, "locator")
	}
	delete(m.rests, unique(*l))
	if i := u.knows(*l); i >= 0 {
		u.resting = slices.Delete(slices.Clone(u.resting), i, i+1)
	}
	return nil
}

// free is take that changes nothing.
func (m *model) free(l *denizen.Locator, u *modelUser, override bool) error {
	rests, resting, copied := maps.Clone(m.rests), u.resting, *l
	defer func() { m.rests, u.resting = rests, resting }()
	return m.take(&copied, u, override)
}

func (m *model) ReplaceLocator(_ context.Context, by modelPrincipal, id denizen.UserID, locator denizen.LocatorID, n denizen.NewLocator, versions ...denizen.UserVersion) (l denizen.Locator, err error) {
	if err := m.enter("SU", 0, by, id); err != nil {
		return l, err
	}
	name := strings.HasPrefix(n.Locator, "nick:")
	if by.user != "" {
		n.Status, n.Override = "", false
	}
	if err := early(n, by.IsSystem()); err != nil {
		return l, err
	}
	if by.user != "" && !name {
		return l, refused(denizen.ErrDenied, "locator")
	}
	u, err := m.user(by, id)
	if err != nil {
		return l, err
	}
	if err := expected(versions, u.Version); err != nil {
		return l, err
	}
	if err := m.mayChange(by, u); err != nil {
		return l, err
	}
	i, err := u.locator(locator)
	if err != nil {
		return l, err
	}
	old := u.Locators[i]
	kind, raw, _ := strings.Cut(n.Locator, ":")
	if string(old.Type) != kind {
		return l, refused(denizen.ErrInvalid, "locator")
	}
	s, formed := spellings[n.Locator]
	switch j := u.has(denizen.Locator{Canonical: s.canonical}); {
	case formed && j == i:
		if l = old; l.Raw == raw {
			return l, nil
		}
		l.Raw = raw
		if l.Address = raw; kind == "tele" {
			l.Address = l.Canonical
		}
		u.Locators[i] = l
		m.edited(by, denizen.EventLocatorsSet, u)
		return l, nil
	case formed && j >= 0:
		return l, refused(denizen.ErrTaken, "locator")
	}
	if l, err = m.locator(n); err != nil {
		return denizen.Locator{}, err
	}
	if !old.Owned && u.owned() >= denizen.MaxLocators {
		return denizen.Locator{}, refused(denizen.ErrLimited, "locators")
	}
	without := &modelUser{User: u.User, resting: u.resting}
	without.Locators = slices.Delete(slices.Clone(u.Locators), i, i+1)
	known := u.knows(l) >= 0
	if known && m.asleep(l, u) && !n.Override {
		return denizen.Locator{}, refused(denizen.ErrTaken, "locator")
	}
	back := 0
	if known {
		if r := u.resting[u.knows(l)]; r.until > m.now() {
			back = 1
		}
	}
	if by.user != "" && unique(l) != unique(old) && m.liveRests(u)-back >= 4 {
		return denizen.Locator{}, refused(denizen.ErrLimited, "locators")
	}
	if without.alike(l) {
		return denizen.Locator{}, refused(denizen.ErrTaken, "locator")
	}
	if err := m.take(&l, u, n.Override); err != nil {
		return denizen.Locator{}, err
	}
	u.Locators = slices.Clone(u.Locators)
	u.Locators[i] = l
	if old.Owned {
		m.rest(old, u)
	}
	m.edited(by, denizen.EventLocatorsSet, u)
	return l, nil
}

// early refuses what is known of a locator before anybody is looked up; whether it has a form at all
// may be known only after.
func early(n denizen.NewLocator, bySystem bool) error {
	_, ok := spellings[n.Locator]
	switch {
	case !ok && strings.HasPrefix(n.Locator, "nick:"), !ok && strings.HasPrefix(n.Locator, "fax:") && bySystem:
	case !ok && strings.HasPrefix(n.Locator, "fax:"), !ok:
		return refused(denizen.ErrInvalid, "locator")
	}
	if n.Status != "" && !slices.Contains(statuses, n.Status) {
		return refused(denizen.ErrInvalid, "verificationStatus")
	}
	return nil
}

func (m *model) AddLocator(_ context.Context, by modelPrincipal, id denizen.UserID, n denizen.NewLocator, versions ...denizen.UserVersion) (l denizen.Locator, err error) {
	if err := m.enter("SU", 0, by, id); err != nil {
		return l, err
	}
	name := strings.HasPrefix(n.Locator, "nick:")
	if by.user != "" {
		n.Override = false
		n.Status = denizen.Unverified
		if name {
			n.Status = ""
		}
	}
	if err := early(n, by.IsSystem()); err != nil {
		return l, err
	}
	s, formed := spellings[n.Locator]
	explicit := n.Status
	if !name {
		n.Status = cmp.Or(n.Status, denizen.StatusNotProvided)
	}
	u, err := m.user(by, id)
	if err != nil {
		return l, err
	}
	if err := expected(versions, u.Version); err != nil {
		return l, err
	}
	if err := m.mayChange(by, u); err != nil {
		return l, err
	}
	if i := u.has(denizen.Locator{Canonical: s.canonical}); formed && i >= 0 {
		l := u.Locators[i]
		if l.Owned && by.IsSystem() && explicit != "" && explicit != l.Status {
			return denizen.Locator{}, refused(denizen.ErrTaken, "locator")
		}
		if l.Owned || by.user != "" {
			return l, nil
		}
		if u.owned() >= denizen.MaxLocators {
			return denizen.Locator{}, refused(denizen.ErrLimited, "locators")
		}
		if err := m.take(&l, u, n.Override); err != nil {
			return denizen.Locator{}, err
		}
		m.setStatus(&l, n.Status)
		u.Locators[i] = l
		m.edited(by, denizen.EventLocatorOwned, u, string(l.ID))
		return l, nil
	}
	owning := by.IsSystem() || name
	if owning && u.owned() >= denizen.MaxLocators || !owning && len(u.Locators)-u.owned() >= denizen.MaxClaims {
		return l, refused(denizen.ErrLimited, "locators")
	}
	if l, err = m.locator(n); err != nil {
		return denizen.Locator{}, err
	}
	if name && u.nicks() >= 2 {
		return denizen.Locator{}, refused(denizen.ErrLimited, "locators")
	}
	if owning {
		if u.alike(l) {
			return denizen.Locator{}, refused(denizen.ErrTaken, "locator")
		}
		if err := m.take(&l, u, n.Override); err != nil {
			return denizen.Locator{}, err
		}
	}
	u.Locators = append(u.Locators, l)
	m.edited(by, denizen.EventLocatorAdded, u, string(l.ID))
	return l, nil
}

func (m *model) SetLocators(_ context.Context, by modelPrincipal, id denizen.UserID, locators []denizen.NewLocator, versions ...denizen.UserVersion) (denizen.User, error) {
	if err := m.enter("S", 0, by, id); err != nil {
		return denizen.User{}, err
	}
	var seen []string
	for _, n := range locators {
		if err := early(n, true); err != nil {
			return denizen.User{}, err
		}
		s, ok := spellings[n.Locator]
		if ok && slices.Contains(seen, s.canonical) {
			return denizen.User{}, refused(denizen.ErrInvalid, "locators")
		}
		seen = append(seen, s.canonical)
	}
	u, err := m.user(by, id)
	if err != nil {
		return denizen.User{}, err
	}
	if err := expected(versions, u.Version); err != nil {
		return denizen.User{}, err
	}
	set := &modelUser{}
	own, names := 0, 0
	for _, n := range locators {
		var l denizen.Locator
		s, ok := spellings[n.Locator]
		if i := u.has(denizen.Locator{Canonical: s.canonical}); ok && i >= 0 {
			l = u.Locators[i]
			if l.Type == nick && n.Status != "" && n.Status != l.Status {
				return denizen.User{}, refused(denizen.ErrInvalid, "verificationStatus")
			}
			if l.Owned || n.Status == denizen.Verified {
				own++
			}
			if n.Status != "" && n.Status != l.Status {
				m.setStatus(&l, n.Status)
			}
		} else if l, err = m.locator(n); err != nil {
			return denizen.User{}, err
		} else {
			own++
			if l.Type == nick {
				names++
			}
		}
		if set.alike(l) {
			return denizen.User{}, refused(denizen.ErrInvalid, "locators")
		}
		set.Locators = append(set.Locators, l)
	}
	if own > denizen.MaxLocators || names > 0 && set.nicks() > 2 {
		return denizen.User{}, refused(denizen.ErrLimited, "locators")
	}
	asleep := u.resting
	for i, n := range locators {
		l := &set.Locators[i]
		if u.has(*l) >= 0 && n.Status != denizen.Verified || l.Owned {
			continue // what was a claim stays one
		}
		if err := m.free(l, u, n.Override); err != nil {
			u.resting = asleep
			return denizen.User{}, err
		}
	}
	for i, n := range locators {
		l := &set.Locators[i]
		if u.has(*l) >= 0 && n.Status != denizen.Verified || l.Owned {
			continue
		}
		if err := m.take(l, u, n.Override); err != nil {
			return denizen.User{}, err
		}
	}
	if !slices.Equal(set.Locators, u.Locators) {
		before := u.Locators
		u.Locators = set.Locators
		for _, l := range before {
			if l.Owned && u.has(l) < 0 {
				m.rest(l, u)
			}
		}
		m.edited(by, denizen.EventLocatorsSet, u)
	}
	return u.shown(), nil
}

func (m *model) SetVerification(_ context.Context, by modelPrincipal, id denizen.UserID, locator denizen.LocatorID, status denizen.VerificationStatus, versions ...denizen.UserVersion) (denizen.Locator, error) {
	if err := m.enter("S", 0, by, id); err != nil {
		return denizen.Locator{}, err
	}
	if !slices.Contains(statuses, status) {
		return denizen.Locator{}, refused(denizen.ErrInvalid, "verificationStatus")
	}
	u, err := m.user(by, id)
	if err != nil {
		return denizen.Locator{}, err
	}
	if err := expected(versions, u.Version); err != nil {
		return denizen.Locator{}, err
	}
	i, err := u.locator(locator)
	if err != nil {
		return denizen.Locator{}, err
	}
	l := u.Locators[i]
	if l.Type == nick && status != l.Status {
		return denizen.Locator{}, refused(denizen.ErrInvalid, "verificationStatus")
	}
	if l.Status == status && status != denizen.Verified {
		return l, nil
	}
	what := denizen.EventLocatorVerification
	if status == denizen.Verified && !l.Owned {
		what = denizen.EventLocatorOwned
		if u.owned() >= denizen.MaxLocators {
			return denizen.Locator{}, refused(denizen.ErrLimited, "locators")
		}
		if err := m.take(&l, u, false); err != nil {
			return denizen.Locator{}, err
		}
	}
	m.setStatus(&l, status)
	u.Locators[i] = l
	m.edited(by, what, u, string(l.ID))
	return l, nil
}

func (m *model) RemoveLocator(_ context.Context, by modelPrincipal, id denizen.UserID, locator denizen.LocatorID, versions ...denizen.UserVersion) error {
	u, err := m.about("SU", 0, by, id)
	if err != nil {
		return err
	}
	if err := expected(versions, u.Version); err != nil {
		return err
	}
	i, err := u.locator(locator)
	if err != nil {
		return err
	}
	gone := u.Locators[i]
	if err := m.mayChange(by, u); err != nil {
		return err
	}
	reserved := by.user != "" && gone.Type != nick && gone.Owned && gone.Status == denizen.Verified
	if reserved && len(u.changes) >= 8 {
		return refused(denizen.ErrLimited, "locators")
	}
	if gone.Type == nick && by.user != "" && m.liveRests(u) >= 4 {
		return refused(denizen.ErrLimited, "locators")
	}
	u.Locators = slices.Delete(slices.Clone(u.Locators), i, i+1)
	m.rest(gone, u)
	if reserved {
		until := m.now() + 72*60*60*1000
		u.changes = append(u.changes, until)
		m.rests[unique(gone)] = modelRest{u.ID, u.InternalID, until}
	}
	m.edited(by, denizen.EventLocatorRemoved, u, string(locator))
	return nil
}

// Profiles.

func (m *model) DefineAttribute(_ context.Context, by modelPrincipal, def denizen.AttributeDef) (denizen.AttributeDef, error) {
	if err := m.system(by); err != nil {
		return denizen.AttributeDef{}, err
	}
	if err := definable(&def); err != nil {
		return denizen.AttributeDef{}, err
	}
	if err := m.stands(by); err != nil {
		return denizen.AttributeDef{}, err
	}
	if _, ok := m.defs[def.Key]; ok {
		return denizen.AttributeDef{}, refused(denizen.ErrTaken, "key")
	}
	m.defs[def.Key] = def
	m.commit(by, denizen.EventAttributeDefined, nil, def.Key)
	return def, nil
}

func definable(def *denizen.AttributeDef) error {
	def.MaxBytes = cmp.Or(def.MaxBytes, denizen.MaxAttributeBytes)
	def.VisibleTo, def.WritableBy = cmp.Or(def.VisibleTo, denizen.ToSelf), cmp.Or(def.WritableBy, denizen.ToSelf)
	switch {
	case !validKey(def.Key):
		return refused(denizen.ErrInvalid, "key")
	case def.MaxBytes < 0 || def.MaxBytes > denizen.MaxAttributeBytes:
		return refused(denizen.ErrInvalid, "maxBytes")
	case !slices.Contains([]denizen.Audience{denizen.ToSelf, denizen.ToPeers, denizen.ToSystem}, def.VisibleTo):
		return refused(denizen.ErrInvalid, "visibleTo")
	case def.WritableBy != denizen.ToSelf && def.WritableBy != denizen.ToSystem:
		return refused(denizen.ErrInvalid, "writableBy")
	}
	return nil
}

func validKey(key string) bool {
	return key != "" && utf8.RuneCountInString(key) <= 128 && !strings.ContainsFunc(key, func(r rune) bool { return r == ',' || unicode.IsControl(r) })
}

func (m *model) AttributeDef(_ context.Context, by modelPrincipal, key string) (denizen.AttributeDef, error) {
	if err := m.enter("SA", 0, by, ""); err != nil {
		return denizen.AttributeDef{}, err
	}
	if !validKey(key) {
		return denizen.AttributeDef{}, refused(denizen.ErrInvalid, "key")
	}
	if err := m.stands(by); err != nil {
		return denizen.AttributeDef{}, err
	}
	def, ok := m.defs[key]
	if !ok {
		return def, refused(denizen.ErrNotFound, "attributeDef")
	}
	return def, nil
}

func (m *model) AttributeDefs(_ context.Context, by modelPrincipal) (defs []denizen.AttributeDef, err error) {
	if err := first(m.enter("SA", 0, by, ""), m.stands(by)); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(m.defs)) {
		defs = append(defs, m.defs[key])
	}
	return defs, nil
}

func (m *model) DropAttributeDef(_ context.Context, by modelPrincipal, key string) error {
	if err := m.system(by); err != nil {
		return err
	}
	if !validKey(key) {
		return refused(denizen.ErrInvalid, "key")
	}
	if err := m.stands(by); err != nil {
		return err
	}
	if _, ok := m.defs[key]; !ok {
		return refused(denizen.ErrNotFound, "attributeDef")
	}
	for _, u := range m.users {
		if u.attribute(key) >= 0 {
			return refused(denizen.ErrConflict, "key")
		}
	}
	delete(m.defs, key)
	m.commit(by, denizen.EventAttributeDropped, nil, key)
	return nil
}

func (u *modelUser) attribute(key string) int {
	return slices.IndexFunc(u.attributes, func(a denizen.Attribute) bool { return a.Key == key })
}

// mayWrite and maySee are the scriptAudiences of the definition of an attribute; .system is in all.

func (m *model) mayWrite(by modelPrincipal, key string) bool {
	return by.IsSystem() || m.defs[key].WritableBy == denizen.ToSelf
}

func (m *model) maySee(by modelPrincipal, u *modelUser, key string) bool {
	to := m.defs[key].VisibleTo
	return by.IsSystem() || to == denizen.ToPeers || to == denizen.ToSelf && by.user == u.ID
}

// patch sets attributes of u, or changes nothing and says why not. It returns the keys of
// those that changed.
func (m *model) patch(by modelPrincipal, u *modelUser, attributes []denizen.Attribute, mode denizen.PatchMode) (changed []string, err error) {
	var keys []string
	for _, a := range attributes {
		if !validKey(a.Key) {
			return nil, refused(denizen.ErrInvalid, "key")
		}
		if slices.Contains(keys, a.Key) {
			return nil, refused(denizen.ErrInvalid, "attributes")
		}
		keys = append(keys, a.Key)
	}
	next := slices.Clone(u.attributes)
	for _, a := range attributes {
		def, ok := m.defs[a.Key]
		a.ContentType, a.ContentEncoding = cmp.Or(a.ContentType, "text/plain"), cmp.Or(a.ContentEncoding, "identity")
		switch {
		case !ok:
			return nil, refused(denizen.ErrInvalid, "key")
		case !m.mayWrite(by, a.Key):
			return nil, refused(denizen.ErrDenied, "key")
		case len(def.ContentTypes) > 0 && !slices.Contains(def.ContentTypes, a.ContentType):
			return nil, refused(denizen.ErrInvalid, "contentType")
		case len(def.ContentEncodings) > 0 && !slices.Contains(def.ContentEncodings, a.ContentEncoding):
			return nil, refused(denizen.ErrInvalid, "contentEncoding")
		case def.NotEmpty && a.Value == "", len(a.Value) > def.MaxBytes, !utf8.ValidString(a.Value), strings.Contains(a.Value, "\x00"):
			return nil, refused(denizen.ErrInvalid, "value")
		}
		i := u.attribute(a.Key)
		if i >= 0 && u.attributes[i] == a {
			continue
		}
		next = append(slices.DeleteFunc(next, func(o denizen.Attribute) bool { return o.Key == a.Key }), a)
		changed = append(changed, a.Key)
	}
	slices.SortFunc(next, func(a, b denizen.Attribute) int { return cmp.Compare(a.Key, b.Key) })
	if mode == denizen.Replace {
		next = slices.DeleteFunc(next, func(a denizen.Attribute) bool {
			goes := !slices.Contains(keys, a.Key) && m.mayWrite(by, a.Key)
			if goes {
				changed = append(changed, a.Key)
			}
			return goes
		})
	}
	u.attributes = next
	return changed, nil
}

func (m *model) SetAttribute(ctx context.Context, by modelPrincipal, id denizen.UserID, a denizen.Attribute, versions ...denizen.ProfileVersion) (denizen.Profile, error) {
	return m.SetAttributes(ctx, by, id, []denizen.Attribute{a}, denizen.Merge, versions...)
}

func (m *model) SetAttributes(_ context.Context, by modelPrincipal, id denizen.UserID, attributes []denizen.Attribute, mode denizen.PatchMode, versions ...denizen.ProfileVersion) (denizen.Profile, error) {
	if err := m.enter("SU", 0, by, id); err != nil {
		return denizen.Profile{}, err
	}
	if mode > denizen.Replace {
		return denizen.Profile{}, refused(denizen.ErrInvalid, "patchType")
	}
	u, err := m.user(by, id)
	if err != nil {
		return denizen.Profile{}, err
	}
	if err := expected(versions, u.version); err != nil {
		return denizen.Profile{}, err
	}
	changed, err := m.patch(by, u, attributes, mode)
	if err != nil {
		return denizen.Profile{}, err
	}
	if len(changed) > 0 {
		m.profileChanged(by, u, changed...)
	}
	return m.profile(by, u), nil
}

func (m *model) profileChanged(by modelPrincipal, u *modelUser, keys ...string) {
	if u.version = denizen.ProfileVersion(m.commit(by, denizen.EventProfileChanged, u, keys...)); len(u.attributes) == 0 {
		u.version = 0
	}
}

func (m *model) RemoveAttribute(_ context.Context, by modelPrincipal, id denizen.UserID, key string, versions ...denizen.ProfileVersion) error {
	if err := m.enter("SU", 0, by, id); err != nil {
		return err
	}
	if !validKey(key) {
		return refused(denizen.ErrInvalid, "key")
	}
	u, err := m.user(by, id)
	if err != nil {
		return err
	}
	if err := expected(versions, u.version); err != nil {
		return err
	}
	if _, defined := m.defs[key]; defined && !m.mayWrite(by, key) {
		return refused(denizen.ErrDenied, "key")
	}
	i := u.attribute(key)
	if i < 0 || !m.maySee(by, u, key) {
		return refused(denizen.ErrNotFound, "attribute")
	}
	u.attributes = slices.Delete(slices.Clone(u.attributes), i, i+1)
	m.profileChanged(by, u, key)
	return nil
}

// profile returns what by sees of u's attributes.
func (m *model) profile(by modelPrincipal, u *modelUser) denizen.Profile {
	p := denizen.Profile{User: u.ID, Version: u.version}
	for _, a := range u.attributes {
		if m.maySee(by, u, a.Key) {
			p.Attributes = append(p.Attributes, a)
		}
	}
	return p
}

func (m *model) Profile(_ context.Context, by modelPrincipal, id denizen.UserID) (denizen.Profile, error) {
	if err := m.enter("SUP", denizen.FacetProfile, by, id); err != nil {
		return denizen.Profile{}, err
	}
	u, err := m.seen(by, id)
	if err != nil {
		return denizen.Profile{}, err
	}
	return m.profile(by, u), nil
}

func (m *model) Attributes(_ context.Context, by modelPrincipal, id denizen.UserID, keys []string) (attributes []denizen.Attribute, err error) {
	if err := m.enter("SUP", denizen.FacetProfile, by, id); err != nil {
		return nil, err
	}
	for _, key := range keys {
		if !validKey(key) {
			return nil, refused(denizen.ErrInvalid, "key")
		}
	}
	u, err := m.seen(by, id)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		i := u.attribute(key)
		if i < 0 || !m.maySee(by, u, key) {
			return nil, refused(denizen.ErrNotFound, "attribute")
		}
		attributes = append(attributes, u.attributes[i])
	}
	return attributes, nil
}

// Presence.

// states returns the states of p, one in each.
func states(p denizen.Presence) (chain []denizen.Presence) {
	for more := p.State() != ""; more; p, more = p.Next() {
		if p.TTL() == 0 {
			chain = append(chain, denizen.State(p.State()))
		} else {
			chain = append(chain, denizen.State(p.State(), p.TTL()))
		}
	}
	return chain
}

func sameChain(a, b []denizen.Presence) bool {
	return slices.EqualFunc(a, b, func(a, b denizen.Presence) bool { return a.Equal(b) })
}

func validChain(chain []denizen.Presence) bool {
	total := time.Duration(0)
	for i, s := range chain {
		if s.TTL() < 0 || s.TTL() == 0 && i < len(chain)-1 || utf8.RuneCountInString(s.State()) > 128 || strings.ContainsFunc(s.State(), unicode.IsControl) {
			return false
		}
		total += s.TTL()
	}
	return len(chain) >= 1 && len(chain) <= 32 && total <= 2147483647*time.Second
}

// at returns which state is active, len(chain) if none is, and when it began or the last
// one ended.
func (d modelDevice) at(now int64) (active int, since int64) {
	since = max(d.start, d.beat)
	for i, s := range d.chain {
		if s.TTL() == 0 || now < since+s.TTL().Milliseconds() {
			return i, since
		}
		since += s.TTL().Milliseconds()
	}
	return len(d.chain), since
}

// last returns when the last state begins.
func (d modelDevice) last() int64 {
	at := max(d.start, d.beat)
	for _, s := range d.chain[:len(d.chain)-1] {
		at += s.TTL().Milliseconds()
	}
	return at
}

func (m *model) SetPresence(_ context.Context, by modelPrincipal, id denizen.UserID, p denizen.Presence) error {
	if err := m.enter("SU", 0, by, id); err != nil {
		return err
	}
	set := modelDevice{name: p.Device(), start: m.now(), chain: states(p)}
	var broken error
	if !validChain(set.chain) {
		broken = refused(denizen.ErrInvalid, "presence")
	} else if utf8.RuneCountInString(set.name) > 64 || strings.ContainsFunc(set.name, unicode.IsControl) {
		broken = refused(denizen.ErrInvalid, "device")
	}
	if gone := m.stands(by); gone != nil && broken != nil {
		return either{broken, gone}
	}
	if broken != nil {
		return broken
	}
	u, err := m.user(by, id)
	if err != nil {
		return err
	}
	if u.Blocked {
		return refused(denizen.ErrDenied, "user")
	}
	for i, d := range u.devices {
		if active, _ := d.at(set.start); d.name == set.name && sameChain(d.chain, set.chain) && active == 0 {
			u.devices[i].beat = max(d.start, d.beat, set.start) // a heartbeat, which never sets a chain back
			if m.commits {
				u.devices = slices.DeleteFunc(u.devices, func(o modelDevice) bool {
					active, _ := o.at(set.start)
					return active == len(o.chain)
				})
			}
			return nil
		}
	}
	u.devices = withDevice(u.devices, set, set.start)
	m.commit(by, denizen.EventPresenceSet, u)
	m.letIn(u)
	return nil
}

// withDevice returns devices with one that is set.
func withDevice(devices []modelDevice, set modelDevice, now int64) []modelDevice {
	devices = slices.DeleteFunc(devices, func(d modelDevice) bool {
		active, _ := d.at(now)
		return d.name == set.name || active == len(d.chain)
	})
	if len(devices) == 16 {
		longest := slices.MinFunc(devices, func(a, b modelDevice) int {
			return cmp.Or(cmp.Compare(a.last(), b.last()), cmp.Compare(a.name, b.name))
		})
		devices = slices.DeleteFunc(devices, func(d modelDevice) bool { return d.name == longest.name })
	}
	return append(devices, set)
}

func (m *model) ClearPresence(_ context.Context, by modelPrincipal, id denizen.UserID, device string) error {
	u, err := m.about("SU", 0, by, id)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(u.devices, func(d modelDevice) bool {
		active, _ := d.at(m.now())
		return d.name == device && active < len(d.chain)
	})
	if i < 0 {
		return refused(denizen.ErrNotFound, "device")
	}
	u.devices = slices.Delete(u.devices, i, i+1)
	m.commit(by, denizen.EventPresenceCleared, u)
	return nil
}

func (m *model) ClearAllPresence(_ context.Context, by modelPrincipal, id denizen.UserID) error {
	u, err := m.about("SU", 0, by, id)
	if err != nil {
		return err
	}
	if len(u.devices) > 0 {
		u.devices = nil
		m.commit(by, denizen.EventPresenceCleared, u)
	}
	return nil
}

func (m *model) SetPresenceHidden(_ context.Context, by modelPrincipal, id denizen.UserID, hidden bool) error {
	u, err := m.about("SU", 0, by, id)
	if err != nil || u.hidden == hidden {
		return err
	}
	u.hidden = hidden
	what := denizen.EventPresenceShown
	if hidden {
		what = denizen.EventPresenceHidden
	}
	m.commit(by, what, u)
	return nil
}

func (m *model) Devices(_ context.Context, by modelPrincipal, id denizen.UserID) (devices []denizen.UserPresence, err error) {
	u, err := m.about("SU", 0, by, id)
	if err != nil {
		return nil, err
	}
	for _, d := range u.devices {
		one := modelUser{User: u.User, devices: []modelDevice{d}}
		if p := one.presence(m.now()); p.Presence.State() != "" {
			devices = append(devices, p)
		}
	}
	slices.SortFunc(devices, func(a, b denizen.UserPresence) int {
		return strings.Compare(a.Presence.Device(), b.Presence.Device())
	})
	return devices, nil
}

func (m *model) Presence(ctx context.Context, by modelPrincipal, id denizen.UserID) (denizen.UserPresence, error) {
	users, err := m.all(denizen.FacetPresence, by, []denizen.UserID{id})
	if err != nil {
		return denizen.UserPresence{}, err
	}
	return m.shown(by, users[0]), nil
}

func (m *model) Presences(_ context.Context, by modelPrincipal, ids []denizen.UserID) (presences []denizen.UserPresence, err error) {
	for _, id := range ids {
		if err := m.enter("SUP", denizen.FacetPresence, by, id); err != nil {
			return nil, err
		}
	}
	if _, err := m.all(denizen.FacetPresence, by, nil); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if u, err := m.seen(by, id); err == nil {
			presences = append(presences, m.shown(by, u))
		}
	}
	return presences, nil
}

// shown is the presence of u as by sees it.
func (m *model) shown(by modelPrincipal, u *modelUser) denizen.UserPresence {
	if u.hidden && !by.IsSystem() && by.user != u.ID {
		return denizen.UserPresence{User: u.ID}
	}
	return u.presence(m.now())
}

// Present returns all who are here as one page.
func (m *model) Present(_ context.Context, by modelPrincipal, q denizen.PresentQuery) (page denizen.PresentPage, err error) {
	if err := m.system(by); err != nil {
		return page, err
	}
	if q.Limit < 0 {
		return page, refused(denizen.ErrInvalid, "limit")
	}
	if err := m.stands(by); err != nil {
		return page, err
	}
	for _, u := range m.users {
		if p := u.presence(m.now()); p.Presence.State() != "" && p.Presence.State() != denizen.StateOffline {
			page.Users = append(page.Users, p)
		}
	}
	return page, nil
}

func (m *model) CountPresent(ctx context.Context, by modelPrincipal) (map[string]int, error) {
	page, err := m.Present(ctx, by, denizen.PresentQuery{})
	if err != nil {
		return nil, err
	}
	states := map[string]int{}
	for _, p := range page.Users {
		states[p.Presence.State()]++
	}
	return states, nil
}

var ranks = []string{denizen.StateOnline, denizen.StateAway, denizen.StateSleeping, denizen.StateMissing, denizen.StateOffline}

// presence returns that of the best device.
func (u *modelUser) presence(now int64) denizen.UserPresence {
	rank := func(d modelDevice) int {
		active, _ := d.at(now)
		if active == len(d.chain) {
			return len(ranks) + 1
		}
		if i := slices.Index(ranks, d.chain[active].State()); i >= 0 {
			return i
		}
		return len(ranks)
	}
	since := func(d modelDevice) int64 {
		active, since := d.at(now)
		if active == 0 {
			return d.start // whatever heartbeats came since
		}
		return since
	}
	p := denizen.UserPresence{User: u.ID}
	if len(u.devices) == 0 {
		return p
	}
	best := slices.MinFunc(u.devices, func(a, b modelDevice) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(since(b), since(a)), cmp.Compare(a.name, b.name))
	})
	active, began := best.at(now)
	p.Since = time.UnixMilli(since(best))
	if active < len(best.chain) && best.chain[active].TTL() > 0 {
		p.Until = time.UnixMilli(began).Add(best.chain[active].TTL())
	}
	for _, s := range best.chain[active:] {
		p.Presence = p.Presence.Then(s).On(best.name)
	}
	return p
}

// Tokens.

const (
	modelTTL     = time.Hour
	modelLongest = 48 * time.Hour
)

func wholeSecond(ms int64) int64 { return (ms + 999) / 1000 * 1000 }

// live returns the tokens of u that did not expire; each holds only the texts that did not.
func (m *model) live(u *modelUser) (tokens []*modelToken) {
	for _, t := range u.tokens {
		token := *t
		token.texts = slices.DeleteFunc(slices.Clone(t.texts), func(s string) bool { return m.now() >= m.texts[s].expires })
		if len(token.texts) > 0 {
			tokens = append(tokens, &token)
		}
	}
	return tokens
}

func find(tokens []*modelToken, id denizen.TokenID) int {
	return slices.IndexFunc(tokens, func(t *modelToken) bool { return t.ID == id })
}

// end returns when the last text of a token ends.
func (m *model) end(t *modelToken) (end int64) {
	for _, s := range t.texts {
		end = max(end, m.texts[s].expires)
	}
	return end
}

func (m *model) IssueToken(_ context.Context, by modelPrincipal, id denizen.UserID, o denizen.TokenOptions) (denizen.IssuedToken, error) {
	if err := m.enter("S", 0, by, id); err != nil {
		return denizen.IssuedToken{}, err
	}
	o.TTL = cmp.Or(o.TTL, modelTTL)
	if o.TTL < time.Second || o.TTL%time.Second != 0 || o.TTL > modelLongest {
		return denizen.IssuedToken{}, refused(denizen.ErrInvalid, "ttl")
	}
	if o.Label != "" && !validScreenName(o.Label) {
		return denizen.IssuedToken{}, refused(denizen.ErrInvalid, "label")
	}
	u, err := m.user(by, id)
	if err != nil {
		return denizen.IssuedToken{}, err
	}
	if u.Blocked {
		return denizen.IssuedToken{}, refused(denizen.ErrDenied, "user")
	}
	u.tokens = m.live(u)
	if len(u.tokens) == denizen.MaxTokens {
		unused := slices.MinFunc(u.tokens, func(a, b *modelToken) int {
			return cmp.Compare(max(a.IssuedAt.UnixMilli(), a.used), max(b.IssuedAt.UnixMilli(), b.used))
		})
		m.revoke(by, u, func(t *modelToken) bool { return t.ID == unused.ID })
	}
	now := m.now()
	t := &modelToken{
		Token:  denizen.Token{ID: denizen.TokenID(m.id()), Label: o.Label, AccessKey: by.key, IssuedAt: time.UnixMilli(now)},
		latest: wholeSecond(now + modelLongest.Milliseconds()),
	}
	u.tokens = append(u.tokens, t)
	m.commit(by, denizen.EventTokenIssued, u, string(t.ID))
	m.letIn(u)
	return m.sign(u, t, wholeSecond(now+o.TTL.Milliseconds())), nil
}

func (m *model) sign(u *modelUser, t *modelToken, expires int64) denizen.IssuedToken {
	key := m.ring[m.signing()]
	text := "signed." + m.id()
	t.texts = append(t.texts, text)
	m.texts[text] = modelText{user: u.ID, internal: u.InternalID, token: t.ID, issued: m.now(), expires: expires, signed: key}
	key.needed = max(key.needed, expires)
	return denizen.IssuedToken{ID: t.ID, Signed: text, ExpiresAt: time.UnixMilli(expires)}
}

func (m *model) ExtendToken(_ context.Context, by modelPrincipal, id denizen.UserID, token denizen.TokenID, ttl time.Duration) (denizen.IssuedToken, error) {
	if err := m.enter("SU", 0, by, id); err != nil {
		return denizen.IssuedToken{}, err
	}
	if ttl < time.Second || ttl%time.Second != 0 {
		return denizen.IssuedToken{}, refused(denizen.ErrInvalid, "ttl")
	}
	if ttl > modelLongest {
		return denizen.IssuedToken{}, refused(denizen.ErrLimited, "ttl")
	}
	u, err := m.user(by, id)
	if err != nil {
		return denizen.IssuedToken{}, err
	}
	live := m.live(u)
	i := find(live, token)
	if i < 0 && find(u.tokens, token) >= 0 {
		return denizen.IssuedToken{}, either{refused(denizen.ErrExpired, "token"), refused(denizen.ErrNotFound, "token")}
	}
	if i < 0 {
		return denizen.IssuedToken{}, refused(denizen.ErrNotFound, "token")
	}
	t, expires := live[i], wholeSecond(m.now()+ttl.Milliseconds())
	if expires > t.latest || expires <= m.end(t) {
		return denizen.IssuedToken{}, refused(denizen.ErrLimited, "ttl")
	}
	if len(t.texts) == denizen.MaxTokenTexts {
		soonest := slices.MinFunc(t.texts, func(a, b string) int { return cmp.Compare(m.texts[a].expires, m.texts[b].expires) })
		t.texts = slices.DeleteFunc(t.texts, func(s string) bool { return s == soonest })
	}
	u.tokens = live
	m.commit(by, denizen.EventTokenExtended, u, string(t.ID))
	return m.sign(u, t, expires), nil
}

func (m *model) Tokens(_ context.Context, by modelPrincipal, id denizen.UserID) (tokens []denizen.Token, err error) {
	u, err := m.about("SU", 0, by, id)
	if err != nil {
		return nil, err
	}
	for _, t := range m.live(u) {
		t.ExpiresAt = time.UnixMilli(m.end(t))
		if t.used != 0 {
			t.LastUsedAt = time.UnixMilli(t.used)
		}
		tokens = append(tokens, t.Token)
	}
	return tokens, nil
}

func (m *model) RevokeTokens(_ context.Context, by modelPrincipal, id denizen.UserID, tokens ...denizen.TokenID) error {
	u, err := m.about("SU", 0, by, id)
	if err != nil || len(tokens) == 0 {
		return err
	}
	left := m.live(u)
	var ended []string
	for _, token := range tokens {
		if slices.Contains(ended, string(token)) {
			continue
		}
		i := find(left, token)
		if i < 0 {
			return refused(denizen.ErrNotFound, "token")
		}
		left, ended = slices.Delete(left, i, i+1), append(ended, string(token))
	}
	u.tokens = left
	m.commit(by, denizen.EventTokenRevoked, u, ended...)
	return nil
}

func (m *model) RevokeAllTokens(_ context.Context, by modelPrincipal, id denizen.UserID) error {
	u, err := m.about("SU", 0, by, id)
	if err != nil {
		return err
	}
	m.revoke(by, u, func(*modelToken) bool { return true })
	return nil
}

// revoke ends some of u's tokens and returns how many.
func (m *model) revoke(by modelPrincipal, u *modelUser, which func(*modelToken) bool) int {
	var ended []string
	left := slices.DeleteFunc(m.live(u), func(t *modelToken) bool {
		if which(t) {
			ended = append(ended, string(t.ID))
			return true
		}
		return false
	})
	if len(ended) > 0 {
		u.tokens = left
		m.commit(by, denizen.EventTokenRevoked, u, ended...)
	}
	return len(ended)
}

func (m *model) RevokeTokensIssuedBy(_ context.Context, by modelPrincipal, key string) (n int, err error) {
	if err := m.system(by); err != nil {
		return 0, err
	}
	if key == "" {
		return 0, refused(denizen.ErrInvalid, "accessKey")
	}
	if err := m.stands(by); err != nil {
		return 0, err
	}
	for _, id := range slices.Sorted(maps.Keys(m.users)) {
		n += m.revoke(by, m.users[id], func(t *modelToken) bool { return t.AccessKey == key })
	}
	return n, nil
}

func (m *model) Logout(ctx context.Context, by modelPrincipal) error {
	if by.user == "" {
		return by.nobody()
	}
	if by.token == "" {
		return refused(denizen.ErrDenied, "token")
	}
	return m.RevokeTokens(ctx, by, by.user, by.token)
}

// Who is calling.

func (m *model) Check(_ context.Context, by modelPrincipal) error {
	if by.IsAnonymous() {
		return by.nobody()
	}
	if err := m.stands(by); err != nil || by.token == "" {
		return err
	}
	if !slices.ContainsFunc(m.live(m.users[by.user]), func(t *modelToken) bool { return t.ID == by.token }) {
		return refused(denizen.ErrRevoked, "token")
	}
	return nil
}

func (m *model) Authenticate(_ context.Context, signed string) (modelPrincipal, error) {
	text, ok := m.texts[signed]
	if !ok {
		return modelPrincipal{}, refused(denizen.ErrUnauthenticated, "token")
	}
	refuse := refused(denizen.ErrRevoked, "token")
	if m.now() >= text.expires {
		refuse = refused(denizen.ErrExpired, "token")
	}
	if u := m.users[text.user]; u != nil && u.InternalID == text.internal {
		i := slices.IndexFunc(u.tokens, func(t *modelToken) bool { return slices.Contains(t.texts, signed) })
		if m.lapse(); i >= 0 && m.now() < text.expires && !u.Blocked {
			u.tokens[i].used = m.now()
			return modelPrincipal{name: string(u.ID), user: u.ID, internal: u.InternalID, token: text.token}, nil
		}
	}
	if text.signed.dropped || m.now() >= text.signed.needed {
		// A text that is not kept any more cannot be told from a stranger's without its key.
		return modelPrincipal{}, either{refuse, refused(denizen.ErrUnauthenticated, "token")}
	}
	return modelPrincipal{}, refuse
}

func (m *model) ActAs(_ context.Context, by modelPrincipal, user denizen.UserID) (modelPrincipal, error) {
	if err := m.system(by); err != nil {
		return modelPrincipal{}, err
	}
	denied := refused(denizen.ErrDenied, "user")
	if !validID(user) {
		return modelPrincipal{}, denied
	}
	if err := m.stands(by); err != nil {
		return modelPrincipal{}, err
	}
	u := m.users[user]
	if u == nil || u.Blocked {
		return modelPrincipal{}, denied
	}
	return modelPrincipal{name: string(u.ID), user: u.ID, internal: u.InternalID, key: by.key, born: by.born, operator: by.operator}, nil
}

// asOperator is who by is under the name of an operator.
func asOperator(by modelPrincipal, operator string) modelPrincipal {
	if !by.IsSystem() || !regexp.MustCompile(`^[!-~]{1,64}$`).MatchString(operator) {
		return modelPrincipal{operator: "?"}
	}
	by.operator = operator
	return by
}

func (m *model) CreateAccessKey(_ context.Context, by modelPrincipal) (denizen.NewAccessKey, error) {
	if err := m.system(by); err != nil {
		return denizen.NewAccessKey{}, err
	}
	k := denizen.NewAccessKey{
		Key: m.id(), Secret: base64.StdEncoding.EncodeToString([]byte("made by the model: " + m.id())), CreatedAt: time.UnixMilli(m.now()),
	}
	return k, m.addKey(by, k.Key, k.Secret)
}

func (m *model) PutAccessKey(_ context.Context, by modelPrincipal, key, secret string) error {
	if err := m.system(by); err != nil {
		return err
	}
	if len(key) < 8 || len(key) > 128 || strings.ContainsAny(key, " /") {
		return refused(denizen.ErrInvalid, "accessKey")
	}
	if raw, err := base64.StdEncoding.Strict().DecodeString(secret); err != nil || len(raw) < 32 || len(raw) > 1024 {
		return refused(denizen.ErrInvalid, "accessSecret")
	}
	return m.addKey(by, key, secret)
}

func (m *model) addKey(by modelPrincipal, key, secret string) error {
	if err := m.stands(by); err != nil {
		return err
	}
	if k := m.key(key, 0); k != nil {
		if k.secret != secret {
			return refused(denizen.ErrTaken, "accessKey")
		}
		return nil
	}
	if slices.Contains(m.deleted[max(0, len(m.deleted)-64):], key) {
		return refused(denizen.ErrRevoked, "accessKey")
	}
	if len(m.keys) == denizen.MaxAccessKeys {
		return refused(denizen.ErrLimited, "accessKey")
	}
	m.ids++
	m.keys = append(m.keys, &modelKey{denizen.AccessKey{Key: key, CreatedAt: time.UnixMilli(m.now())}, secret, m.ids})
	m.commit(by, denizen.EventAccessKeyCreated, nil, key)
	return nil
}

func (m *model) AccessKeys(_ context.Context, by modelPrincipal) (keys []denizen.AccessKey, err error) {
	if err := first(m.system(by), m.stands(by)); err != nil {
		return nil, err
	}
	for _, k := range m.keys {
		keys = append(keys, k.AccessKey)
	}
	return keys, nil
}

func (m *model) DeleteAccessKey(_ context.Context, by modelPrincipal, key string) error {
	if err := first(m.system(by), m.stands(by)); err != nil {
		return err
	}
	i := slices.IndexFunc(m.keys, func(k *modelKey) bool { return k.Key == key })
	if i < 0 {
		return refused(denizen.ErrNotFound, "accessKey")
	}
	m.keys = slices.Delete(m.keys, i, i+1)
	m.deleted = append(m.deleted, key)
	m.commit(by, denizen.EventAccessKeyDeleted, nil, key)
	return nil
}

// came returns the principal of whoever authenticated with a key.
func (m *model) came(k *modelKey, how string) modelPrincipal {
	k.LastUsedAt, k.LastAction = time.UnixMilli(m.now()), how
	return modelPrincipal{name: ".system", key: k.Key, born: k.born}
}

func (m *model) AuthenticateKey(_ context.Context, key, secret string) (modelPrincipal, error) {
	k := m.key(key, 0)
	if k == nil || k.secret != secret {
		return modelPrincipal{}, refused(denizen.ErrUnauthenticated, "accessKey")
	}
	return m.came(k, "Basic"), nil
}

func (m *model) AuthenticateSigned(_ context.Context, r denizen.SignedRequest) (modelPrincipal, error) {
	if len(r.Nonce) < 8 || len(r.Nonce) > 128 || strings.Contains(r.Nonce, " ") {
		return modelPrincipal{}, refused(denizen.ErrInvalid, "nonce")
	}
	date, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", r.Date)
	if err != nil {
		return modelPrincipal{}, refused(denizen.ErrInvalid, "date")
	}
	k := m.key(r.AccessKey, 0)
	if k == nil || r.Digest != digestOf(r, k.secret) {
		return modelPrincipal{}, refused(denizen.ErrUnauthenticated, "digest")
	}
	if off := m.now() - date.UnixMilli(); off > 25_000 || off < -25_000 {
		return modelPrincipal{}, refused(denizen.ErrExpired, "date")
	}
	// A nonce is stored under the minute of its date, and is looked for in the ones beside it.
	nonce := func(minute int64) string { return fmt.Sprintln(minute, r.AccessKey, r.Nonce) }
	minute := date.Unix() / 60
	if m.nonces[nonce(minute-1)] || m.nonces[nonce(minute)] || m.nonces[nonce(minute+1)] {
		return modelPrincipal{}, refused(denizen.ErrUnauthenticated, "nonce")
	}
	m.nonces[nonce(minute)] = true
	m.seq++
	return m.came(k, "Signed"), nil
}

// digestOf signs a request with a secret in base64.
func digestOf(r denizen.SignedRequest, secret string) string {
	raw, _ := base64.StdEncoding.DecodeString(secret)
	mac := hmac.New(sha1.New, raw)
	fmt.Fprintf(mac, "%s\n%s\n%s\n%s\n%s\n%s", r.Method, r.ContentType, r.ContentMD5, r.Date, r.Path, r.Nonce)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Signing keys.

// signing returns which key signs now: the last whose time has come.
func (m *model) signing() int {
	for i := len(m.ring) - 1; i > 0; i-- {
		if m.ring[i].signs <= m.now() {
			return i
		}
	}
	return 0
}

func (m *model) RotateSigningKey(_ context.Context, by modelPrincipal, notice time.Duration) error {
	if err := m.system(by); err != nil {
		return err
	}
	if notice < 0 || notice > 365*24*time.Hour {
		return refused(denizen.ErrInvalid, "notice")
	}
	if err := m.stands(by); err != nil {
		return err
	}
	now, signing := m.now(), m.signing()
	next := &modelSigning{signs: now + notice.Milliseconds()}
	var ring []*modelSigning
	for i, k := range m.ring {
		if i <= signing || k.signs < next.signs {
			ring = append(ring, k)
		} else {
			k.dropped = true
		}
	}
	// What is needed no more may stay for a while, for those who are slow to fetch the keys.
	ring[len(ring)-1].gone = next.signs + modelLongest.Milliseconds() + 24*time.Hour.Milliseconds()
	ring = slices.DeleteFunc(ring, func(k *modelSigning) bool { return k.gone != 0 && k.gone <= now })
	if len(ring) >= denizen.MaxSigningKeys {
		return refused(denizen.ErrLimited, "signingKeys")
	}
	next.id = m.id()
	m.ring = append(ring, next)
	m.commit(by, denizen.EventSigningKeyRotated, nil, next.id)
	return nil
}

func (m *model) DropSigningKey(_ context.Context, by modelPrincipal, id string) error {
	if err := first(m.system(by), m.stands(by)); err != nil {
		return err
	}
	i, signing := slices.IndexFunc(m.ring, func(k *modelSigning) bool { return k.id == id }), m.signing()
	switch {
	case i < 0:
		return refused(denizen.ErrNotFound, "signingKey")
	case i == signing:
		return refused(denizen.ErrConflict, "signingKey")
	case i > signing:
		m.ring[i-1].gone = m.ring[i].gone // it signs in the other's stead
	}
	m.ring[i].dropped = true
	m.ring = slices.Delete(slices.Clone(m.ring), i, i+1)
	m.commit(by, denizen.EventSigningKeyDropped, nil, id)
	return nil
}

// published returns how many keys must be published now, and how many may be.
func (m *model) published() (least, most int) {
	now := m.now()
	for i, k := range m.ring {
		if i >= m.signing() || now < k.needed {
			least++
		}
		if i >= m.signing() || now < max(k.needed, k.gone) {
			most++
		}
	}
	return least, most
}

// verify returns what a service learns of a text that it checks by itself.
func (m *model) verify(signed string) (denizen.Claims, error) {
	t, ok := m.texts[signed]
	switch {
	case !ok || !slices.Contains(m.ring, t.signed):
		return denizen.Claims{}, refused(denizen.ErrUnauthenticated, "token")
	case m.now() >= t.signed.needed:
		return denizen.Claims{}, either{refused(denizen.ErrExpired, "token"), refused(denizen.ErrUnauthenticated, "token")}
	case m.now() >= t.expires:
		return denizen.Claims{}, refused(denizen.ErrExpired, "token")
	}
	return denizen.Claims{
		User: t.user, InternalID: t.internal, Token: t.token, IssuedAt: time.UnixMilli(t.issued / 1000 * 1000), ExpiresAt: time.UnixMilli(t.expires),
	}, nil
}

// The feed.

func (m *model) Events(_ context.Context, by modelPrincipal, after denizen.Cursor) iter.Seq2[denizen.Event, error] {
	return func(yield func(denizen.Event, error) bool) {
		err := first(m.system(by), m.stands(by))
		from := m.forgotten
		if after != "" {
			n, bad := strconv.ParseUint(string(after), 10, 64)
			if bad != nil {
				panic(bad)
			}
			from = denizen.Seq(n)
		}
		if err == nil && from < m.forgotten {
			err = &denizen.Error{Kind: denizen.ErrMissed, Field: "after", Resume: modelCursor(m.seq)}
		}
		if err != nil {
			yield(denizen.Event{}, err)
			return
		}
		for _, e := range m.events {
			if e.Seq > from && !yield(e, nil) {
				return
			}
		}
	}
}

// modelCursor returns the cursor of an event.
func modelCursor(seq denizen.Seq) denizen.Cursor {
	if seq == 0 {
		return ""
	}
	return denizen.Cursor(strconv.FormatUint(uint64(seq), 10))
}

func (m *model) Follow(ctx context.Context, by modelPrincipal, after denizen.Cursor) iter.Seq2[denizen.Event, error] {
	return func(yield func(denizen.Event, error) bool) {
		for e, err := range m.Events(ctx, by, after) {
			if !yield(e, err) || err != nil {
				return
			}
		}
		yield(denizen.Event{}, errWouldWait)
	}
}

func (m *model) RecentEvents(_ context.Context, by modelPrincipal, q denizen.EventQuery) (page denizen.EventPage, err error) {
	if err := m.system(by); err != nil {
		return page, err
	}
	if q.Limit < 1 || q.Limit > denizen.MaxList {
		return page, refused(denizen.ErrInvalid, "limit")
	}
	if err := m.stands(by); err != nil {
		return page, err
	}
	for _, e := range slices.Backward(m.events) {
		if e.Seq <= m.forgotten || q.Before != 0 && e.Seq >= q.Before {
			continue
		}
		if len(page.Events) == q.Limit {
			page.Next = page.Events[q.Limit-1].Seq
			break
		}
		if (q.User == "" || e.User == q.User || e.Other == q.User) && (len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind)) &&
			(q.Operator == "" || e.Operator == q.Operator) {
			page.Events = append(page.Events, e)
		}
	}
	return page, nil
}

func (m *model) TrimFeed(_ context.Context, by modelPrincipal, upTo denizen.Seq) error {
	if err := first(m.system(by), m.stands(by)); err != nil || upTo == 0 {
		return err
	}
	m.seq++
	m.forgotten = max(m.forgotten, min(upTo, m.seq-1))
	return nil
}
