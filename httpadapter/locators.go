package httpadapter

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/denizenhq/denizen"
)

type locatorShape struct {
	Type               denizen.LocatorType        `json:"@type"`
	UserLocatorID      denizen.LocatorID          `json:"userLocatorId"`
	Identifier         denizen.LocatorID          `json:"identifier"`
	Locator            string                     `json:"locator"`
	Email              string                     `json:"email,omitempty"`
	VerificationStatus denizen.VerificationStatus `json:"verificationStatus"`
	ApplicationID      reference                  `json:"applicationId"`
	Raw                string                     `json:"raw"`
	Owned              bool                       `json:"owned"`
	VerifiedAt         *int64                     `json:"verifiedAt"`
	Stale              bool                       `json:"stale,omitempty"`
}

func (c *call) locatorShape(l denizen.Locator) locatorShape {
	s := locatorShape{
		Type: l.Type, UserLocatorID: l.ID, Identifier: l.ID, Locator: l.String(),
		VerificationStatus: l.Status, ApplicationID: reference{c.h.dir.ApplicationID()},
		Raw: l.Raw, Owned: l.Owned, VerifiedAt: millisOrNull(l.VerifiedAt),
		Stale: l.Stale,
	}
	if l.Type == denizen.TypeEmail {
		s.Email = l.Address
	}
	return s
}

// locatorShapes returns what the caller is shown of a list. A client that knows e-mail addresses
// and telephone numbers may fail at another type, so these are left out unless they are asked for.
func (c *call) locatorShapes(ls []denizen.Locator) []locatorShape {
	shapes := make([]locatorShape, 0, len(ls))
	for _, l := range ls {
		if c.allTypes || knownToAll(l.Type) {
			shapes = append(shapes, c.locatorShape(l))
		}
	}
	return shapes
}

// knownToAll reports whether every client knows a type of locators.
func knownToAll(t denizen.LocatorType) bool {
	return t == denizen.TypeEmail || t == denizen.TypeTele
}

// readLocatorTypes reads the query parameter that asks for locators of all types.
func (c *call) readLocatorTypes() error {
	if c.r.URL.RawQuery == "" {
		return nil
	}
	q, err := c.query()
	if err != nil || !q.Has("locatorTypes") {
		return nil // whether the query has to be one is for the route to say
	}
	if types := q["locatorTypes"]; len(types) != 1 || types[0] != "all" {
		return badValue("locatorTypes", "must be all")
	}
	c.allTypes = true
	return nil
}

// statuses are in the order in which clients that send numbers count them.
var statuses = []denizen.VerificationStatus{
	denizen.Verified, denizen.Unverified, denizen.StatusNotProvided,
	denizen.VerificationPending, denizen.VerificationNotApplicable,
}

// newLocator reads a locator: a string, or an object. Its member locator decides where there is
// one, and otherwise its @type with its email or phoneNumber.
func newLocator(value any) (n denizen.NewLocator, err error) {
	if s, ok := value.(string); ok {
		return denizen.NewLocator{Locator: s}, nil
	}
	f, err := asObject(value)
	if err != nil {
		return n, badSyntax("a locator is neither a string nor an object")
	}
	n.Locator = f.text("locator")
	if !f.has("locator") {
		number, _ := f.object["phoneNumber"].(string) // an object of that name says nothing
		switch kind := f.text("@type"); denizen.LocatorType(kind) {
		case denizen.TypeEmail:
			n = denizen.Email(f.text("email"))
		case denizen.TypeTele:
			n = denizen.Tele(number)
		default:
			if *f.err == nil {
				return n, badValue("@type", "must be email or tele where locator is missing")
			}
		}
	}
	n.Claim = f.object["owned"] == false
	n.Override = f.flag("override", false)
	n.Status, err = f.verificationStatus()
	if err != nil {
		return n, err
	}
	return n, *f.err
}

// verificationStatus reads a status by its name or its number on the wire.
func (f fields) verificationStatus() (denizen.VerificationStatus, error) {
	switch status := f.object["verificationStatus"].(type) {
	case nil:
	case string:
		return denizen.VerificationStatus(status), nil
	case json.Number:
		i := f.integer("verificationStatus")
		if *f.err != nil {
			return "", *f.err
		}
		if i < 0 || i >= int64(len(statuses)) {
			return "", badValue("verificationStatus", "must be a name or 0 to 4")
		}
		return statuses[i], nil
	default:
		f.wrong("verificationStatus", "a name or a number")
	}
	return "", *f.err
}

// newLocators reads the list of locators in the member of a name, if it is there.
func newLocators(f fields, name string) (ns []denizen.NewLocator, err error) {
	list, _ := f.list(name)
	for _, value := range list {
		n, err := newLocator(value)
		if err != nil {
			return nil, err
		}
		ns = append(ns, n)
	}
	return ns, nil
}

func listLocators(c *call) (reply, error) {
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	locators, err := c.h.dir.Locators(c.r.Context(), c.by, id)
	if err != nil {
		return reply{}, err
	}
	return okJSON(c.locatorShapes(locators))
}

func addLocator(c *call) (reply, error) {
	n, err := newLocator(c.given)
	if err != nil {
		return reply{}, err
	}
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	c.names = map[string]string{"locator": n.Locator}
	added, err := c.h.dir.AddLocator(c.r.Context(), c.by, id, n)
	if err != nil {
		return reply{}, err
	}
	return created(string(added.ID), "locators/"+string(added.ID))
}

func setLocators(c *call) (reply, error) {
	list, isList := c.given.([]any)
	if !isList {
		return reply{}, badSyntax("the body is not a list")
	}
	ns, err := newLocators(fields{map[string]any{"userLocators": list}, new(error)}, "userLocators")
	if err != nil {
		return reply{}, err
	}
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	var given []string
	for _, n := range ns {
		given = append(given, n.Locator)
	}
	c.names = map[string]string{"locator": strings.Join(given, ",")}
	set := c.setKnownToAll
	other := func(n denizen.NewLocator) bool { return !knownToAll(typeOf(n)) }
	if c.allTypes {
		set = c.h.dir.SetLocators
	} else if slices.ContainsFunc(ns, other) {
		const rule = "must be all where other types than email and tele are set"
		return reply{}, badValue("locatorTypes", rule)
	}
	return noContent(withVersion(c, c.userNow(id), func(expected ...denizen.UserVersion) error {
		_, err := set(c.r.Context(), c.by, id, ns, expected...)
		return err
	}))
}

func typeOf(n denizen.NewLocator) denizen.LocatorType {
	t, _, _ := strings.Cut(n.Locator, ":")
	return denizen.LocatorType(t)
}

// setKnownToAll sets a user's e-mail addresses and telephone numbers, for who may know no other
// types: those of other types stay, and where they were in the list. They are part of what is set,
// so it is set on the version that they were read at.
func (c *call) setKnownToAll(
	ctx context.Context, by denizen.Principal, id denizen.UserID, ns []denizen.NewLocator,
	expected ...denizen.UserVersion,
) (u denizen.User, err error) {
	const tries = 16
	for try := 1; ; try++ {
		u, err := c.h.dir.User(ctx, by, id)
		if err != nil {
			// The directory says first whether the caller may set them at all.
			_, refused := c.h.dir.SetLocators(ctx, by, id, ns, noVersion)
			if isConflict(refused) {
				return denizen.User{}, err
			}
			return denizen.User{}, refused
		}
		all := slices.Clone(ns)
		for i, l := range u.Locators {
			if !knownToAll(l.Type) {
				all = slices.Insert(all, min(i, len(all)), denizen.NewLocator{Locator: l.String()})
			}
		}
		versions := append(slices.Clip(expected), u.Version)
		set, err := c.h.dir.SetLocators(ctx, by, id, all, versions...)
		another := func(v denizen.UserVersion) bool { return v != u.Version }
		switch {
		case !isConflict(err) || slices.ContainsFunc(expected, another):
			return set, err
		case try == tries:
			const reason = "others kept changing the same user"
			return set, &denizen.Error{Kind: denizen.ErrConflict, Reason: reason}
		}
	}
}

// replaceLocator puts a locator in the place of another, such as a name of a user who is renamed.
func replaceLocator(c *call) (reply, error) {
	n, err := newLocator(c.given)
	if err != nil {
		return reply{}, err
	}
	user, id, err := c.userAndParam("locatorId")
	if err != nil {
		return reply{}, err
	}
	c.names = map[string]string{"locator": n.Locator}
	var set denizen.Locator
	err = withVersion(c, c.userNow(user), func(expected ...denizen.UserVersion) (err error) {
		ctx, old := c.r.Context(), denizen.LocatorID(id)
		set, err = c.h.dir.ReplaceLocator(ctx, c.by, user, old, n, expected...)
		return err
	})
	if err != nil {
		return reply{}, err
	}
	return okJSON(c.locatorShape(set))
}

// userAndParam returns the user that the path names, and the one thing of it that it names.
func (c *call) userAndParam(name string) (denizen.UserID, string, error) {
	thing, err := c.param(1, name)
	if err != nil {
		return "", "", err
	}
	id, err := c.user()
	return id, thing, err
}

func getLocator(c *call) (reply, error) {
	user, id, err := c.userAndParam("locatorId")
	if err != nil {
		return reply{}, err
	}
	l, err := c.h.dir.Locator(c.r.Context(), c.by, user, denizen.LocatorID(id))
	if err != nil {
		return reply{}, err
	}
	return okJSON(c.locatorShape(l))
}

func removeLocator(c *call) (reply, error) {
	user, id, err := c.userAndParam("locatorId")
	if err != nil {
		return reply{}, err
	}
	return noContent(c.h.dir.RemoveLocator(c.r.Context(), c.by, user, denizen.LocatorID(id)))
}

func setVerification(c *call) (reply, error) {
	f, err := asObject(c.given)
	if err != nil {
		return reply{}, err
	}
	status, err := f.verificationStatus()
	switch {
	case err != nil:
		return reply{}, err
	case status == "":
		return reply{}, badValue("verificationStatus", "is missing")
	}
	user, id, err := c.userAndParam("locatorId")
	if err != nil {
		return reply{}, err
	}
	_, err = c.h.dir.SetVerification(c.r.Context(), c.by, user, denizen.LocatorID(id), status)
	return noContent(err)
}
