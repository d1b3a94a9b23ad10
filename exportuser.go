package denizen

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// ExportedEvents is how many events [Directory.ExportUser] looks through: the newest ones.
const ExportedEvents = 10_000

// ExportUser writes everything that is stored of a user as one JSON document, for the person to
// have. It follows export.schema.json.
//
// It holds the user with its block, its locators and claims, all attributes whoever may see them,
// the devices with their presence, the live tokens, how many locators rest that it gave up, and
// those of the newest [ExportedEvents] events that are about it. Kinds of records that cannot be
// read are named under "damaged". It holds no secret and no text of a token, nobody else's data,
// and nothing of whoever acted for the application. Why a user is blocked is left out unless
// .system asks.
//
// It is all read before the first byte is written, which takes a few megabytes at most. An error of
// w is the cause of [ErrUnavailable]. If the user's own record is damaged the error is
// [ErrCorrupt]. For a user with a token of its own it counts as an event: see
// Options.UserEventBurst. The user itself and .system may.
func (d *Directory) ExportUser(
	ctx context.Context, by Principal, user UserID, w io.Writer,
) (err error) {
	defer d.trace(&ctx, "ExportUser", &by).end(&err)
	c, err := d.enter(ctx, opExportUser, by, user)
	if err != nil {
		return err
	}
	if c.metered() {
		if err := d.take(by.user); err != nil {
			return err
		}
	}
	document, err := d.personOf(ctx, &c)
	if err != nil {
		return err
	}
	if document.Events, err = d.eventsOf(ctx, &c, document.InternalID); err != nil {
		return err
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(document)
}

// exported is the document of one user.
type exported struct {
	Format          int                 `json:"format"`
	Directory       string              `json:"directory"`
	ExportedAt      time.Time           `json:"exportedAt"`
	User            UserID              `json:"user"`
	InternalID      string              `json:"internalId"`
	ScreenName      string              `json:"screenName"`
	CreatedAt       time.Time           `json:"createdAt"`
	UpdatedAt       time.Time           `json:"updatedAt"`
	Block           *exportedBlock      `json:"block,omitempty"`
	Locators        []exportedLocator   `json:"locators"`
	RestingLocators int                 `json:"restingLocators"`
	Undoable        []exportedUndo      `json:"undoable,omitempty"`
	Aliases         []string            `json:"aliases,omitempty"` // ids that lead to the user
	Attributes      []exportedAttribute `json:"attributes"`
	Devices         []exportedDevice    `json:"devices"`
	PresenceHidden  bool                `json:"presenceHidden,omitempty"`
	LastActiveAt    time.Time           `json:"lastActiveAt,omitzero"`
	Tokens          []exportedToken     `json:"tokens"`
	Events          *exportedEvents     `json:"events"`
	Damaged         []string            `json:"damaged,omitempty"`
}

const exportFormat = 1

type exportedBlock struct {
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

type exportedLocator struct {
	ID         LocatorID          `json:"id"`
	Locator    string             `json:"locator"`
	Canonical  string             `json:"canonical"`
	Typed      string             `json:"typed"`
	Status     VerificationStatus `json:"status"`
	Owned      bool               `json:"owned"`
	AddedAt    time.Time          `json:"addedAt"`
	VerifiedAt time.Time          `json:"verifiedAt,omitzero"`
}

// exportedUndo is what an undo of a change of locators brings back.
type exportedUndo struct {
	Until  time.Time `json:"until"`
	Before []string  `json:"before"`
}

type exportedAttribute struct {
	Key             string `json:"key"`
	ContentType     string `json:"contentType"`
	ContentEncoding string `json:"contentEncoding"`
	Value           string `json:"value"`
}

type exportedDevice struct {
	Device      string          `json:"device"`
	SetAt       time.Time       `json:"setAt"`
	HeartbeatAt time.Time       `json:"heartbeatAt"`
	States      []exportedState `json:"states"`
}

type exportedState struct {
	State   string `json:"state"`
	Seconds int64  `json:"seconds,omitempty"`
}

type exportedToken struct {
	ID         TokenID   `json:"id"`
	Label      string    `json:"label,omitempty"`
	IssuedAt   time.Time `json:"issuedAt"`
	ExpiresAt  time.Time `json:"expiresAt"`
	LastUsedAt time.Time `json:"lastUsedAt,omitzero"`
}

type exportedEvents struct {
	Searched int             `json:"searched"` // how many events there were to look through
	First    Seq             `json:"first"`    // of those
	Last     Seq             `json:"last"`
	About    []exportedEvent `json:"about"`
}

type exportedEvent struct {
	Seq      Seq       `json:"seq"`
	At       time.Time `json:"at"`
	Kind     EventKind `json:"kind"`
	By       string    `json:"by"` // "self" or "application"
	Subjects []string  `json:"subjects,omitempty"`
}

// personOf returns the document of the target without its events.
func (d *Directory) personOf(ctx context.Context, c *call) (*exported, error) {
	if err := d.usable(); err != nil {
		return nil, err
	}
	noted, active := d.lastUses.of(c.target), d.lastActive.of(c.target)
	keys := ownKeys(string(c.target))
	entries, err := d.records.Read(ctx, keys...)
	if err != nil {
		return nil, err
	}
	if r, ok := entries[ownUser].Value().(*record.User); ok && len(r.Changes) > 0 {
		undoable := undoKeys(r.Changes...)
		undos, err := d.records.Read(ctx, undoable...)
		if err != nil {
			return nil, err
		}
		keys, entries = append(keys, undoable...), append(entries, undos...)
	}
	// The caller is checked after the data, as in Directory.read.
	if _, err := d.read(ctx, c); err != nil {
		return nil, err
	}
	_ = d.checkDamage(keys, entries) // what is damaged is named in the document
	if entries[ownUser].Damaged() {
		return nil, record.ErrCorrupt
	}
	r, err := userIn(entries[ownUser])
	if err != nil {
		return nil, err
	}
	e := &exported{
		Format: exportFormat, Directory: d.id, ExportedAt: timeOf(c.now),
		User: c.target, InternalID: r.Incarnation, ScreenName: r.ScreenName,
		CreatedAt: timeOf(r.Created), UpdatedAt: timeOf(r.Updated),
		Locators: []exportedLocator{}, RestingLocators: restingAt(r, c.now),
		Attributes: []exportedAttribute{}, Devices: []exportedDevice{}, Tokens: []exportedToken{},
	}
	if active.Incarnation == r.Incarnation {
		e.LastActiveAt = timeOf(active.At)
	} else {
		active.At = 0
	}
	if r.Blocked {
		e.Block = &exportedBlock{Until: timeOf(r.BlockedUntil)}
		if c.role == system {
			e.Block.Reason = r.BlockReason
		}
	}
	for _, a := range r.Aliases {
		if !over(a.Until, c.now) {
			e.Aliases = append(e.Aliases, a.ID)
		}
	}
	for _, l := range locatorsOf(r.Locators, c.stale) {
		e.Locators = append(e.Locators, exportedLocator{
			ID: l.ID, Locator: l.String(), Canonical: l.Canonical, Typed: l.Raw,
			Status: l.Status, Owned: l.Owned, AddedAt: l.AddedAt, VerifiedAt: l.VerifiedAt,
		})
	}
	for i, entry := range entries {
		if entry.Damaged() {
			kind, _ := record.Of(keys[i])
			e.Damaged = append(e.Damaged, kind)
		}
		// With a cache the records may be of different times, and of different users of one id.
		if _, incarnation := record.Names(entry.Value()); incarnation != r.Incarnation {
			continue
		}
		switch r := entry.Value().(type) {
		case *record.Profile:
			for _, a := range r.Attributes {
				e.Attributes = append(e.Attributes, exportedAttribute(a))
			}
		case *record.Undo:
			undo := exportedUndo{Until: timeOf(r.Until), Before: []string{}}
			for _, l := range locatorsOf(r.Before, 0) {
				undo.Before = append(undo.Before, l.String())
			}
			e.Undoable = append(e.Undoable, undo)
		case *record.Devices:
			e.Devices = exportedDevices(entry.Pending().Apply(r))
			e.PresenceHidden = r.Hidden
		case *record.Active:
			e.LastActiveAt = timeOf(max(r.At, active.At))
		case *record.Tokens:
			live, _ := dropExpired(r.Tokens, c.now)
			for _, t := range live {
				used := lastUse(t.ID, noted, entries[ownLastUses])
				e.Tokens = append(e.Tokens, exportedToken{
					ID: TokenID(t.ID), Label: t.Label, IssuedAt: timeOf(t.Issued),
					ExpiresAt: timeOf(expiry(t)), LastUsedAt: timeOf(used.At),
				})
			}
		}
	}
	return e, nil
}

// restingAt returns how many locators rest that a user gave up.
func restingAt(r *record.User, now int64) (n int) {
	for _, rest := range r.Resting {
		if now < rest.Until {
			n++
		}
	}
	return n
}

func exportedDevices(devices []presence.Device) []exportedDevice {
	set := make([]exportedDevice, len(devices))
	for i, device := range devices {
		states := make([]exportedState, len(device.Chain))
		for j, l := range device.Chain {
			states[j] = exportedState(l)
		}
		set[i] = exportedDevice{
			Device: device.Name, SetAt: timeOf(device.Start), HeartbeatAt: timeOf(device.Beat),
			States: states,
		}
	}
	return set
}

// eventsOf returns those of the newest events that are about the target. Most commits have no event
// where there are many heartbeats. So it looks back from the head, each time twice as far, until it
// has seen enough events or the oldest one.
func (d *Directory) eventsOf(
	ctx context.Context, c *call, incarnation string,
) (*exportedEvents, error) {
	feed, err := headOf(ctx, d.store)
	if err != nil {
		return nil, err
	}
	for back := store.Seq(ExportedEvents); ; back *= 2 {
		oldest := max(feed.First, 1) - 1
		after := oldest
		if feed.Head > back {
			after = max(after, feed.Head-back)
		}
		found, err := d.eventsSince(ctx, c, incarnation, after, feed.Head)
		if isMissed(err) { // the feed was trimmed or went back meanwhile
			if feed, err = headOf(ctx, d.store); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		if found.Searched == ExportedEvents || after == oldest {
			return found, nil
		}
	}
}

// eventsSince looks through the newest events between two places.
func (d *Directory) eventsSince(
	ctx context.Context, c *call, incarnation string, after, head store.Seq,
) (*exportedEvents, error) {
	// Ids are the same in each spelling of JSON, so most events need no decoding.
	id := []byte(`"` + string(c.target) + `"`)
	found := &exportedEvents{Last: Seq(head), About: []exportedEvent{}}
	var seqs []store.Seq
	forgetOlder := func() {
		seqs = append(seqs[:0], seqs[max(0, len(seqs)-ExportedEvents):]...)
		found.About = slices.DeleteFunc(found.About, func(e exportedEvent) bool {
			return store.Seq(e.Seq) < seqs[0]
		})
	}
	for after < head {
		feed, err := d.store.Changes(ctx, after, MaxPage)
		if err != nil {
			return nil, err
		}
		for _, ch := range feed.Changes {
			if after = ch.Seq; after > head {
				break
			}
			if seqs = append(seqs, after); len(seqs) == 2*ExportedEvents {
				forgetOlder()
			}
			if ch.Damaged || !bytes.Contains(ch.Event, id) {
				continue
			}
			e, _, err := d.eventOf(ch)
			if err != nil || e.User != c.target || e.InternalID != incarnation {
				continue
			}
			by := "application"
			if e.Actor == string(c.target) && e.AccessKey == "" && e.Operator == "" {
				by = "self"
			}
			found.About = append(found.About, exportedEvent{
				Seq: e.Seq, At: e.At, Kind: e.Kind, By: by, Subjects: e.Subjects,
			})
		}
		if len(feed.Changes) < MaxPage {
			break
		}
	}
	if len(seqs) > 0 {
		forgetOlder()
		found.Searched, found.First = len(seqs), Seq(seqs[0])
	}
	return found, nil
}
