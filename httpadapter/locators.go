package httpadapter

import (
	"encoding/json"
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
}

func (c *call) locatorShape(l denizen.Locator) locatorShape {
	s := locatorShape{
		Type: l.Type, UserLocatorID: l.ID, Identifier: l.ID, Locator: l.String(),
		VerificationStatus: l.Status, ApplicationID: reference{c.h.dir.ApplicationID()},
		Raw: l.Raw, Owned: l.Owned, VerifiedAt: millisOrNull(l.VerifiedAt),
	}
	if l.Type == denizen.TypeEmail {
		s.Email = l.Address
	}
	return s
}

func (c *call) locatorShapes(ls []denizen.Locator) []locatorShape {
	shapes := make([]locatorShape, len(ls))
	for i, l := range ls {
		shapes[i] = c.locatorShape(l)
	}
	return shapes
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
	return noContent(withVersion(c, c.userNow(id), func(expected ...denizen.UserVersion) error {
		_, err := c.h.dir.SetLocators(c.r.Context(), c.by, id, ns, expected...)
		return err
	}))
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
