package httpadapter

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/wire"
)

// reference is how one entity names another.
type reference struct {
	Identifier string `json:"identifier"`
}

type screenName struct {
	ScreenName string `json:"screenName"`
}

// userShape is a user as the application and the user itself see it.
type userShape struct {
	UserID         denizen.UserID `json:"userId"`
	Identifier     denizen.UserID `json:"identifier"`
	InternalID     string         `json:"internalId"`
	ScreenName     screenName     `json:"screenName"`
	UserLocators   []locatorShape `json:"userLocators"`
	SystemUser     bool           `json:"systemUser"`
	Synthetic      bool           `json:"synthetic"`
	Blocked        bool           `json:"blocked"`
	BlockedUntil   int64          `json:"blockedUntil,omitempty"`
	BlockReason    string         `json:"blockReason,omitempty"`
	EntityProfile  *profileShape  `json:"entityProfile"`
	EntityMetadata struct{}       `json:"entityMetadata"`
	AuditInfo      auditInfo      `json:"auditInfo"`
}

type auditInfo struct {
	CreatedAt int64 `json:"createdAt"`
	UpdatedAt int64 `json:"updatedAt"`
}

// peerShape is a user as another user sees it.
type peerShape struct {
	UserID        denizen.UserID `json:"userId"`
	Identifier    denizen.UserID `json:"identifier"`
	ScreenName    screenName     `json:"screenName"`
	UserLocators  []locatorShape `json:"userLocators"`
	EntityProfile *profileShape  `json:"entityProfile"` // null
}

// unixMillis returns t in Unix milliseconds, 0 for no time.
func unixMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// userBody returns what the caller is shown of u.
func (c *call) userBody(u denizen.User, profile *profileShape) any {
	if u.Peer {
		return peerShape{
			UserID: u.ID, Identifier: u.ID, ScreenName: screenName{u.ScreenName},
			UserLocators: []locatorShape{},
		}
	}
	return &userShape{
		UserID: u.ID, Identifier: u.ID, InternalID: u.InternalID, ScreenName: screenName{u.ScreenName},
		UserLocators: c.locatorShapes(u.Locators), EntityProfile: profile,
		Blocked: u.Blocked, BlockedUntil: unixMillis(u.Block.Until), BlockReason: u.Block.Reason,
		AuditInfo: auditInfo{unixMillis(u.CreatedAt), unixMillis(u.UpdatedAt)},
	}
}

func createUser(c *call) (reply, error) {
	f, err := asObject(c.given)
	if err != nil {
		return reply{}, err
	}
	n := denizen.NewUser{ID: denizen.UserID(f.text("userId"))}
	if f.has("userId") && n.ID == "" && *f.err == nil {
		return reply{}, badValue("userId", "must not be empty")
	}
	name, _ := f.member("screenName")
	n.ScreenName = name.text("screenName")
	if n.Locators, err = newLocators(f, "userLocators"); err != nil {
		return reply{}, err
	}
	// A list that was read of another user may hold claims, which nobody owns by being created.
	n.Locators = slices.DeleteFunc(n.Locators, func(l denizen.NewLocator) bool {
		return l.Claim && l.Status != denizen.Verified
	})
	if profile, there := f.member("entityProfile"); there {
		if n.Attributes, err = attributes(profile); err != nil {
			return reply{}, err
		}
	}
	if *f.err != nil {
		return reply{}, *f.err
	}
	key, there, err := singleHeader(c.r.Header, "Idempotency-Key")
	if err != nil {
		return reply{}, err
	}
	if there {
		if key == "" {
			return reply{}, badValue("Idempotency-Key", "must not be empty")
		}
		body, err := c.body()
		if err != nil {
			return reply{}, err
		}
		digest := sha256.Sum256(body)
		text := base64.StdEncoding.EncodeToString(digest[:])
		n.Idempotency = denizen.Idempotency{Key: key, Digest: text}
	}
	var locators []string
	for _, l := range n.Locators {
		locators = append(locators, l.Locator)
	}
	c.names = map[string]string{"user": string(n.ID), "locator": strings.Join(locators, ",")}
	u, err := c.h.dir.CreateUser(c.r.Context(), c.by, n)
	if err != nil {
		return reply{}, err
	}
	return created(string(u.ID), "users/"+url.PathEscape(string(u.ID)))
}

// attributeKeys are the attributes to attach to users.
type attributeKeys struct {
	all  bool
	keys []string
}

// query returns the query parameters. Those that are not known are ignored.
func (c *call) query() (url.Values, error) {
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, badValue("query", "is not a query string")
	}
	return q, nil
}

// singleQuery returns the only value of a query parameter, "" if there is none.
func singleQuery(q url.Values, name string) (string, error) {
	if len(q[name]) > 1 {
		return "", badValue(name, "must not be repeated")
	}
	return q.Get(name), nil
}

// wantedAttributes reads which attributes to attach. Each is looked for in each profile, so
// there is a bound.
func wantedAttributes(q url.Values) (w attributeKeys, err error) {
	for _, value := range q["withProfileAttributes"] {
		for key := range strings.SplitSeq(value, ",") {
			switch key {
			case "":
			case "*":
				w.all = true
			default:
				if len(w.keys) == denizen.MaxList {
					return attributeKeys{}, badValue("withProfileAttributes", "must be 100 keys at most")
				}
				w.keys = append(w.keys, key)
			}
		}
	}
	return w, nil
}

// profileOf returns those of a user's attributes that are asked for, or nil if none are.
func (c *call) profileOf(user denizen.UserID, w attributeKeys) (*profileShape, error) {
	if !w.all && len(w.keys) == 0 {
		return nil, nil
	}
	profile, err := c.h.dir.Profile(c.r.Context(), c.by, user)
	if err != nil {
		return nil, err
	}
	if !w.all {
		profile.Attributes = slices.DeleteFunc(profile.Attributes, func(a denizen.Attribute) bool {
			return !slices.Contains(w.keys, a.Key)
		})
	}
	return newProfileShape(profile), nil
}

func getUser(c *call) (reply, error) {
	var w attributeKeys
	if c.r.URL.RawQuery != "" {
		q, err := c.query()
		if err != nil {
			return reply{}, err
		}
		if w, err = wantedAttributes(q); err != nil {
			return reply{}, err
		}
	}
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	u, err := c.h.dir.User(c.r.Context(), c.by, id)
	if err != nil {
		return reply{}, err
	}
	if u.Peer {
		return okJSON(c.userBody(u, nil))
	}
	encoded := encode(c.userBody(u, nil))
	a := reply{status: http.StatusOK, body: json.RawMessage(encoded), etag: etag(encoded)}
	profile, err := c.profileOf(id, w)
	if err != nil {
		return reply{}, err
	}
	if profile != nil {
		a.body = c.userBody(u, profile)
		a.etag = a.etag[:len(a.etag)-1] + "." + etag(encode(profile))[1:]
	}
	return a, nil
}

// listUsers serves the users behind locators, or a page of all.
func listUsers(c *call) (reply, error) {
	q, err := c.query()
	if err != nil {
		return reply{}, err
	}
	for name := range q {
		if isUnservedFilter(name) {
			return reply{}, badValue(name, "is a filter that is not served")
		}
	}
	w, err := wantedAttributes(q)
	if err != nil {
		return reply{}, err
	}
	if q.Has("locators") {
		return usersByLocator(c, q, w)
	}
	limit, err := singleQuery(q, "limit")
	if err != nil {
		return reply{}, err
	}
	after, err := singleQuery(q, "after")
	if err != nil {
		return reply{}, err
	}
	left := denizen.MaxPage
	if q.Has("limit") {
		n, err := strconv.Atoi(limit)
		if err != nil || n < 1 || n > denizen.MaxPage {
			return reply{}, badValue("limit", "must be 1 to 1000")
		}
		left = n
	}
	list, next, err := c.userPage(denizen.UserCursor(after), left, w)
	if err != nil {
		return reply{}, err
	}
	count, err := c.h.dir.CountUsers(c.r.Context(), c.by)
	if err != nil {
		return reply{}, err
	}
	a := reply{
		status: http.StatusOK, body: json.RawMessage(list),
		header: [2]string{"X-Mitter-Paginated-Estimated-Count", strconv.Itoa(count)},
	}
	if next != "" {
		q.Set("after", string(next))
		a.link = "<?" + q.Encode() + `>; rel="next"`
	}
	return a, nil
}

const (
	// pageBytes is how long a page of users may become before it ends early.
	pageBytes = 4 << 20
	// profileStep is how many users are read at once where their attributes are asked for. A page
	// is at most pageBytes and that many users long.
	profileStep = 8
)

// userPage encodes a page of at most left users. It reads their attributes in small steps and ends
// early once the page is long, so that a page is bounded in bytes. The cursor says where to go on.
// Users who cannot be read are left out, and count as if they were shown.
func (c *call) userPage(
	after denizen.UserCursor, left int, w attributeKeys,
) (list []byte, next denizen.UserCursor, err error) {
	var b bytes.Buffer
	b.WriteByte('[')
	for {
		step := left
		if w.all || len(w.keys) > 0 {
			step = min(left, profileStep)
		}
		page, err := c.h.dir.Users(c.r.Context(), c.by, denizen.UserQuery{After: after, Limit: step})
		if err != nil {
			return nil, "", err
		}
		c.damaged = append(c.damaged, page.Damaged...)
		for body, err := range c.userBodies(page.Users, w) {
			if err != nil {
				return nil, "", err
			}
			if b.Len() > 1 {
				b.WriteByte(',')
			}
			wire.Encode(&b, body)
		}
		left -= len(page.Users) + len(page.Damaged)
		after = page.Next
		if after == "" || left <= 0 || b.Len() >= pageBytes {
			b.WriteByte(']')
			return b.Bytes(), after, nil
		}
	}
}

// isUnservedFilter reports whether a query parameter would leave users out of the list. If it were
// ignored, everybody would be returned to a caller who asked for a few.
func isUnservedFilter(name string) bool {
	switch name {
	case "metadata", "ids", "name", "blocked", "createdAfter":
		return true
	}
	return strings.HasPrefix(name, "attribute.")
}

func usersByLocator(c *call, q url.Values, w attributeKeys) (reply, error) {
	locators := []string{}
	for _, value := range q["locators"] {
		if value != "" {
			locators = append(locators, strings.Split(value, ",")...)
		}
	}
	users, err := c.h.dir.UsersByLocator(c.r.Context(), c.by, locators)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, list: c.userBodies(users, w)}, nil
}

// userBodies yields what the caller is shown of users. A user who was deleted since it was listed
// has no profile. One whose attributes cannot be read is shown without them: it must not hide the
// others.
func (c *call) userBodies(users []denizen.User, w attributeKeys) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		for _, u := range users {
			profile, err := c.profileOf(u.ID, w)
			switch {
			case errors.Is(err, denizen.ErrCorrupt):
				c.damaged = append(c.damaged, u.ID)
			case err != nil && !errors.Is(err, denizen.ErrNotFound):
				yield(nil, err)
				return
			}
			if !yield(c.userBody(u, profile), nil) {
				return
			}
		}
	}
}

func blockUser(c *call) (reply, error) {
	f, err := asObject(c.given)
	if err != nil {
		return reply{}, err
	}
	blocked := f.flag("blocked", false)
	block := denizen.Block{Reason: f.text("reason")}
	if f.has("until") {
		block.Until = time.UnixMilli(f.integer("until"))
	}
	switch {
	case *f.err != nil:
		return reply{}, *f.err
	case !f.has("blocked"):
		return reply{}, badValue("blocked", "is missing")
	case !blocked && (f.has("reason") || f.has("until")):
		return reply{}, badValue("blocked", "must be true where there is a reason or an end")
	}
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	return noContent(withVersion(c, c.userNow(id), func(expected ...denizen.UserVersion) error {
		var err error
		if blocked {
			_, err = c.h.dir.BlockUser(c.r.Context(), c.by, id, block, expected...)
		} else {
			_, err = c.h.dir.UnblockUser(c.r.Context(), c.by, id, expected...)
		}
		return err
	}))
}

func deleteUser(c *call) (reply, error) {
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	return noContent(withVersion(c, c.userNow(id), func(expected ...denizen.UserVersion) error {
		return c.h.dir.DeleteUser(c.r.Context(), c.by, id, expected...)
	}))
}

// eraseUser answers the receipt as the directory makes it, so that it is good for a restore.
func eraseUser(c *call) (reply, error) {
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	var receipt denizen.Erasure
	err = withVersion(c, c.userNow(id), func(expected ...denizen.UserVersion) (err error) {
		receipt, err = c.h.dir.EraseUser(c.r.Context(), c.by, id, expected...)
		return err
	})
	if err != nil {
		return reply{}, err
	}
	return okJSON(receipt)
}

func exportUser(c *call) (reply, error) {
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, document: func(w io.Writer) error {
		return c.h.dir.ExportUser(c.r.Context(), c.by, id, w)
	}}, nil
}

func getScreenNames(c *call) (reply, error) {
	ids, _, err := c.users()
	if err != nil {
		return reply{}, err
	}
	users, err := c.h.dir.UsersByID(c.r.Context(), c.by, ids)
	if err != nil {
		return reply{}, err
	}
	names := make([]screenName, len(users))
	for i, u := range users {
		names[i].ScreenName = u.ScreenName
	}
	return okJSON(struct {
		ScreenNames []screenName `json:"screenNames"`
	}{names})
}

func setScreenName(c *call) (reply, error) {
	f, err := asObject(c.given)
	if err != nil {
		return reply{}, err
	}
	name := f.text("screenName")
	if *f.err != nil {
		return reply{}, *f.err
	}
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	return noContent(withVersion(c, c.userNow(id), func(expected ...denizen.UserVersion) error {
		_, err := c.h.dir.SetScreenName(c.r.Context(), c.by, id, name, expected...)
		return err
	}))
}
