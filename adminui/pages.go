package adminui

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
)

//go:embed files
var files embed.FS

// assets are what pages load, by their names, and their types. Their URLs hold a hash of all.
var assets = map[string]string{
	"console.css": "text/css; charset=utf-8",
	"console.js":  "text/javascript; charset=utf-8",
	"icon.svg":    "image/svg+xml",
}

var assetsHash = func() string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(assets)) {
		text, _ := files.ReadFile("files/" + name)
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16]
}()

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"mask": mask, "stamp": stamp, "exact": exact, "path": url.PathEscape,
	"count":   func(n int) string { return count(n) },
	"count64": count[int64],
	"bytes":   bytesOf,
	"decimal": func(f float64) string {
		if f >= 100 || f == float64(int64(f)) {
			return count(int64(f + 0.5))
		}
		return fmt.Sprintf("%.1f", f)
	},
	"id":     func(id denizen.UserID) string { return string(id) },
	"class":  stateClass,
	"span":   span,
	"status": statusName,
	"state":  stateName,
	"form":   func(p *person, do, text string) doForm { return doForm{p.Action, do, text, do == "block"} },
	"rule":   func(err error) string { return reasonOf(err) },
}).ParseFS(files, "files/*.html"))

// stateName returns a state of presence as people read it.
func stateName(state string) string {
	if state == "" {
		return "others"
	}
	return strings.TrimPrefix(state, "mitter.up.")
}

// statusName returns how far a locator is verified, as people read it.
func statusName(s denizen.VerificationStatus) string {
	switch s {
	case denizen.Verified:
		return "verified"
	case denizen.VerificationPending:
		return "being verified"
	case denizen.VerificationNotApplicable:
		return "needs no verification"
	}
	return "not verified"
}

// stateClass returns the class by which the style knows a state.
func stateClass(state string) string {
	switch state {
	case denizen.StateOnline:
		return "online"
	case denizen.StateAway, denizen.StateSleeping, denizen.StateMissing:
		return "away"
	case denizen.StateOffline, "":
		return "offline"
	}
	return "other"
}

// reasonOf returns what may be told of why something is not well.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*denizen.Error](err); ok {
		if e.Reason != "" {
			return e.Reason
		}
		return e.Kind.Error()
	}
	return "something failed"
}

// frame is what each page has around its own.
type frame struct {
	Root, Title, Page, Files string
	Operator, Application    string
	Live                     string // relative to the root; empty: the page does not change
	Notice                   string
	Body                     any
}

// Part returns an element with a part of the page that changes, for templates.
func (frame) Part(name string, data any) (template.HTML, error) {
	html, digest, err := renderPart(name, data)
	return template.HTML(`<div id="` + name + `" data-part="` + digest + `">` + html + `</div>`), err
}

// renderPart returns the HTML of a part, and a digest of it.
func renderPart(name string, data any) (html, digest string, err error) {
	var b bytes.Buffer
	err = templates.ExecuteTemplate(&b, name, data)
	sum := sha256.Sum256(b.Bytes())
	return b.String(), hex.EncodeToString(sum[:8]), err
}

// show writes a page.
func (v *visit) show(status int, page, title string, body any) error {
	f := frame{
		Root: v.root(), Title: title, Page: page, Files: v.root() + "files/" + assetsHash + "/",
		Operator: v.by.Operator(), Application: v.dir.ApplicationID(), Body: body,
	}
	if n, ok := body.(interface{ notice() string }); ok {
		f.Notice = n.notice()
	}
	if l, ok := body.(interface{ live() string }); ok {
		f.Live = l.live()
	}
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, page+".html", f); err != nil {
		return fmt.Errorf("adminui: a template failed: %w", err)
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(b.Bytes())
	return nil
}

func (v *visit) file() error {
	name := v.r.PathValue("name")
	kind, ok := assets[name]
	text, err := files.ReadFile("files/" + name)
	if !ok || err != nil || v.r.PathValue("hash") != assetsHash {
		return errNoPage
	}
	h := v.w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	_, _ = v.w.Write(text)
	return nil
}

// The overview: totals over time, and the newest events.

type overview struct {
	Root   string
	Totals totals
	Events []denizen.Event
	Stats  *denizen.Stats
	Err    error
}

func (o *overview) live() string { return "live/overview" }

type totals struct {
	Root   string
	Known  bool
	Counts *counts
	States []stateCount
	Rate   float64
	Lag    int64
	Follow bool // whether somebody follows the feed
	Health error
	Err    error
	Charts map[string]lineChart
}

type stateCount struct {
	State string
	N     int
}

type lineChart struct {
	Points, Area string
	Least, Most  float64
	Label        string
}

func newOverview(root string, s *snapshot, events int) *overview {
	o := &overview{Root: root, Events: s.Recent[:min(events, len(s.Recent))], Stats: &s.Stats, Err: s.Err}
	o.Totals = totals{
		Root: root, Known: !s.At.IsZero(), Counts: s.Counts, Rate: s.Rate, Lag: lag(&s.Stats),
		Follow: len(s.Stats.Consumers) > 0, Health: s.Stats.Health, Err: s.Err,
		Charts: map[string]lineChart{},
	}
	if s.Counts != nil {
		for state, n := range s.Counts.Here {
			o.Totals.States = append(o.Totals.States, stateCount{state, n})
		}
		slices.SortFunc(o.Totals.States, func(a, b stateCount) int {
			if a.N != b.N {
				return b.N - a.N
			}
			return strings.Compare(a.State, b.State)
		})
	}
	for name, of := range map[string]func(point) float64{
		"users": func(p point) float64 { return p.users },
		"here":  func(p point) float64 { return p.here },
		"rate":  func(p point) float64 { return p.rate },
		"lag":   func(p point) float64 { return p.lag },
	} {
		var values []float64
		for _, p := range s.History {
			if p.users >= 0 {
				values = append(values, of(p))
			}
		}
		c := lineChart{}
		c.Points, c.Least, c.Most = chart(values)
		if x, _, ok := strings.Cut(c.Points, ","); ok && len(values) > 1 {
			c.Area = fmt.Sprintf("%s,%d %s %d,%d", x, chartHeight, c.Points, chartWidth, chartHeight)
		}
		c.Label = fmt.Sprintf("over the last %d seconds, from %.4g to %.4g",
			len(values)*int(chartEvery/time.Second), c.Least, c.Most)
		o.Totals.Charts[name] = c
	}
	return o
}

const eventsOnOverview = 12

func (v *visit) overview() error {
	s := v.hub.known(v.ctx, 30*time.Millisecond)
	return v.show(http.StatusOK, "overview", "Overview", newOverview(v.root(), &s, eventsOnOverview))
}

func (v *visit) liveOverview() error { return v.stream(liveFunc(v.overviewParts)) }

func (v *visit) overviewParts(_ context.Context, s *snapshot) ([]part, time.Time, error) {
	if s.At.IsZero() {
		return nil, time.Time{}, nil
	}
	o := newOverview(pageRoot, s, eventsOnOverview)
	return []part{{"totals", o.Totals}, {"events", eventList{pageRoot, o.Events}}}, time.Time{}, nil
}

// Links in a part are relative to the page that has it, and not to the stream: pages below people/
// are one deeper.
const (
	pageRoot   = "./"
	personRoot = "../"
)

type liveFunc func(context.Context, *snapshot) ([]part, time.Time, error)

func (f liveFunc) parts(ctx context.Context, s *snapshot) ([]part, time.Time, error) {
	return f(ctx, s)
}

type eventList struct {
	Root   string
	Events []denizen.Event
}

// List returns the newest events, for the template of a list.
func (o *overview) List() eventList { return eventList{o.Root, o.Events} }

// People: a search, a list, and who is here.

type found struct {
	Root  string
	Asked string
	Users []denizen.User
}

// search finds users by one text: an id, an address, a number, or a locator of any type.
func (v *visit) search() error {
	asked := strings.TrimSpace(v.r.PostForm.Get("q"))
	if len(asked) > denizen.MaxLocatorBytes {
		return errForm
	}
	var users []denizen.User
	add := func(some ...denizen.User) {
		for _, u := range some {
			if !slices.ContainsFunc(users, func(o denizen.User) bool { return o.ID == u.ID }) {
				users = append(users, u)
			}
		}
	}
	if _, err := denizen.ParseUserID(asked); err == nil {
		id, err := v.dir.ResolveUser(v.ctx, v.by, asked)
		if err != nil {
			return err
		}
		switch u, err := v.dir.User(v.ctx, v.by, id); {
		case err == nil:
			add(u)
		case !errors.Is(err, denizen.ErrNotFound):
			return err
		}
	}
	for _, locator := range []string{asked, "email:" + asked, "tele:" + asked} {
		some, err := v.dir.UsersByLocator(v.ctx, v.by, []string{locator})
		if err != nil && !errors.Is(err, denizen.ErrInvalid) { // it is none of that type
			return err
		}
		add(some...)
	}
	if len(users) == 1 {
		return v.redirect("people/" + url.PathEscape(string(users[0].ID)))
	}
	return v.show(http.StatusOK, "found", "Search", &found{v.root(), asked, users})
}

const peopleOnPage = 50

type people struct {
	Root string
	denizen.UserPage
	First bool
}

func (v *visit) people() error {
	q := denizen.UserQuery{Limit: peopleOnPage, After: denizen.UserCursor(v.r.Form.Get("after"))}
	page, err := v.dir.Users(v.ctx, v.by, q)
	if err != nil {
		return err
	}
	return v.show(http.StatusOK, "people", "People", &people{v.root(), page, q.After == ""})
}

type here struct {
	Root   string
	Users  []someoneHere
	Next   denizen.PresentCursor
	First  bool
	Counts *counts
}

type someoneHere struct {
	denizen.UserPresence
	Name string
}

// hereWait is for how long somebody who is here is looked for among those who have just left.
const hereWait = time.Second

func (v *visit) here() error {
	q := denizen.PresentQuery{Limit: peopleOnPage, After: denizen.PresentCursor(v.r.Form.Get("after"))}
	began := time.Now()
	page, err := v.dir.Present(v.ctx, v.by, q)
	for err == nil && len(page.Users) == 0 && page.Next != "" && time.Since(began) < hereWait {
		page, err = v.dir.Present(v.ctx, v.by, denizen.PresentQuery{Limit: q.Limit, After: page.Next})
	}
	if err != nil {
		return err
	}
	h := &here{Root: v.root(), Next: page.Next, First: q.After == "", Counts: v.hub.known(v.ctx, 0).Counts}
	for _, p := range page.Users {
		u, err := v.dir.User(v.ctx, v.by, p.User)
		if errors.Is(err, denizen.ErrNotFound) || errors.Is(err, denizen.ErrCorrupt) {
			continue // gone just now, or nothing to show
		}
		if err != nil {
			return err
		}
		h.Users = append(h.Users, someoneHere{p, u.ScreenName})
	}
	return v.show(http.StatusOK, "here", "Here now", h)
}

// The feed.

type feedPage struct {
	Root   string
	Query  query
	Groups any
	Events []denizen.Event
	Next   denizen.Seq
	Older  string // the query of the next page
	Failed string
}

func (f *feedPage) live() string {
	if f.Query.Before != 0 || f.Failed != "" {
		return ""
	}
	return "live/feed" + f.Query.text(0)
}

// text returns a query as a part of a URL. It holds no locator.
func (q *query) text(before denizen.Seq) string {
	values := url.Values{}
	for name, value := range map[string]string{"kind": q.Group, "user": string(q.User), "by": q.Operator} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if before != 0 {
		values.Set("before", fmt.Sprint(before))
	}
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}

// queryOf reads a query from what a form holds.
func queryOf(form url.Values) (q query, err error) {
	q.Group, q.Operator = form.Get("kind"), strings.TrimSpace(form.Get("by"))
	if _, known := kindsOf[q.Group]; q.Group != "" && !known {
		return q, errNoPage
	}
	if q.Operator != "" && denizen.System().Named(q.Operator).Operator() == "" {
		return q, &refusal{http.StatusBadRequest, "This is no name of an operator."}
	}
	if user := strings.TrimSpace(form.Get("user")); user != "" {
		if q.User, err = denizen.ParseUserID(user); err != nil {
			return q, &refusal{http.StatusBadRequest, "This is no user id. To find somebody by an address or a number, search."}
		}
	}
	if before := form.Get("before"); before != "" {
		if _, err := fmt.Sscan(before, &q.Before); err != nil {
			return q, errNoPage
		}
	}
	return q, nil
}

func (v *visit) events(ctx context.Context, q *query, limit int) (denizen.EventPage, error) {
	return v.dir.RecentEvents(ctx, v.by, denizen.EventQuery{
		User: q.User, Kinds: q.kinds(), Operator: q.Operator, Before: q.Before, Limit: limit,
	})
}

const eventsOnPage = 50

func (v *visit) feed() error {
	q, err := queryOf(v.r.Form)
	if err != nil {
		return err
	}
	page, err := v.events(v.ctx, &q, eventsOnPage)
	if err != nil {
		return err
	}
	f := &feedPage{Root: v.root(), Query: q, Groups: kindGroups, Events: page.Events, Next: page.Next}
	if page.Next != 0 {
		f.Older = q.text(page.Next)
	}
	return v.show(http.StatusOK, "feed", "Events", f)
}

// filter takes the form of the feed's filters. It is a POST, so that a locator that somebody typed
// into it is in no URL: what goes on to one is an id that somebody has, or had.
func (v *visit) filter() error {
	q, err := queryOf(v.r.PostForm)
	if err != nil {
		return err
	}
	if q.User != "" {
		_, err := v.dir.User(v.ctx, v.by, q.User)
		if errors.Is(err, denizen.ErrNotFound) {
			var page denizen.EventPage
			page, err = v.events(v.ctx, &query{User: q.User}, 1)
			if err == nil && len(page.Events) == 0 {
				err = denizen.ErrNotFound
			}
		}
		if err != nil && !errors.Is(err, denizen.ErrCorrupt) {
			return err
		}
	}
	q.Before = 0
	return v.redirect("feed" + q.text(0))
}

// List returns the events, for the template of a list.
func (f *feedPage) List() eventList { return eventList{f.Root, f.Events} }

// liveFeed is the feed's page as it grows.
type liveFeed struct {
	v      *visit
	query  query
	events []denizen.Event
	newest denizen.Seq // up to here all are seen, unless missed
	missed bool        // more happened at once than the hub keeps
	readAt time.Time
}

func (v *visit) liveFeed() error {
	q, err := queryOf(v.r.Form)
	if err != nil {
		return err
	}
	return v.stream(&liveFeed{v: v, query: q})
}

func (f *liveFeed) parts(ctx context.Context, s *snapshot) ([]part, time.Time, error) {
	var fresh []denizen.Event
	all := 0
	for i := range s.Recent {
		if s.Recent[i].Seq <= f.newest {
			break
		}
		if all++; f.query.wants(&s.Recent[i]) {
			fresh = append(fresh, s.Recent[i])
		}
	}
	f.missed = f.missed || all == recentKept
	again := f.readAt.Add(refreshEvery)
	if f.readAt.IsZero() || f.missed && !time.Now().Before(again) {
		page, err := f.v.events(ctx, &f.query, eventsOnPage)
		if err != nil {
			return nil, time.Time{}, err
		}
		f.readAt, f.missed, f.events, fresh = time.Now(), false, page.Events, nil
		if len(f.events) > 0 {
			f.newest = f.events[0].Seq
		}
	}
	if len(s.Recent) > 0 {
		f.newest = max(f.newest, s.Recent[0].Seq)
	}
	f.events = append(fresh, f.events...)
	f.events = f.events[:min(eventsOnPage, len(f.events))]
	if !f.missed {
		again = time.Time{}
	}
	return []part{{"events", eventList{pageRoot, f.events}}}, again, nil
}

// Keys, and the store.

type keysPage struct {
	Root    string
	Access  []denizen.AccessKey
	Signing []string
	ID      string
}

func (v *visit) keys() error {
	access, err := v.dir.AccessKeys(v.ctx, v.by)
	if err != nil {
		return err
	}
	signing, err := v.dir.PublicKeys(v.ctx)
	if err != nil {
		return err
	}
	return v.show(http.StatusOK, "keys", "Keys", &keysPage{v.root(), access, signing.IDs(), v.dir.ID()})
}

type storePage struct {
	Root  string
	Store storePart
}

func (*storePage) live() string { return "live/store" }

type storePart struct {
	Root string
	denizen.Stats
	Known     bool
	Err       error
	Groups    []groupSize
	Mean      time.Duration
	InClear   bool
	Consumers []denizen.ConsumerStats
}

// groupSize is how many groups of commits were of a size.
type groupSize struct {
	Size string
	N    int64
	Part int // of a hundred of the most frequent size
}

func newStorePart(root string, s *snapshot) storePart {
	p := storePart{
		Root: root, Stats: s.Stats, Known: !s.At.IsZero(), Err: s.Err,
		InClear: s.Stats.RootKey == denizen.NoRootKey, Consumers: s.Stats.Consumers,
	}
	if c := &s.Stats.Commits; c.Applied > 0 {
		p.Mean = (c.Took / time.Duration(c.Applied)).Round(time.Microsecond)
	}
	most := slices.Max(s.Stats.Commits.GroupSizes[:])
	for i, n := range s.Stats.Commits.GroupSizes {
		if n == 0 {
			continue
		}
		size := fmt.Sprint(1 << i)
		if i > 1 {
			size = fmt.Sprintf("%d to %d", 1<<(i-1)+1, 1<<i)
		}
		p.Groups = append(p.Groups, groupSize{size, n, int(n * 100 / most)})
	}
	return p
}

func (v *visit) store() error {
	s := v.hub.known(v.ctx, 30*time.Millisecond)
	return v.show(http.StatusOK, "store", "Store", &storePage{v.root(), newStorePart(v.root(), &s)})
}

func (v *visit) liveStore() error {
	return v.stream(liveFunc(func(_ context.Context, s *snapshot) ([]part, time.Time, error) {
		if s.At.IsZero() {
			return nil, time.Time{}, nil
		}
		return []part{{"figures", newStorePart(pageRoot, s)}}, time.Time{}, nil
	}))
}
