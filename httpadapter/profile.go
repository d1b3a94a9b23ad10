package httpadapter

import (
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/denizenhq/denizen"
)

type attributeDefShape struct {
	Key                     string           `json:"key"`
	AllowedContentTypes     []string         `json:"allowedContentTypes"`
	AllowedContentEncodings []string         `json:"allowedContentEncodings"`
	CanBeEmpty              bool             `json:"canBeEmpty"`
	EntityType              string           `json:"entityType"`
	MaxBytes                int              `json:"maxBytes"`
	VisibleTo               denizen.Audience `json:"visibleTo"`
	WritableBy              denizen.Audience `json:"writableBy"`
}

type attributeShape struct {
	Key             string `json:"key"`
	ContentType     string `json:"contentType"`
	ContentEncoding string `json:"contentEncoding"`
	Value           string `json:"value"`
}

type profileShape struct {
	EntityID   reference        `json:"entityId"`
	Attributes []attributeShape `json:"attributes"`
}

func newAttributeDefShape(d denizen.AttributeDef) attributeDefShape {
	return attributeDefShape{
		d.Key, append([]string{}, d.ContentTypes...), append([]string{}, d.ContentEncodings...),
		!d.NotEmpty, "users", d.MaxBytes, d.VisibleTo, d.WritableBy,
	}
}

func attributeShapes(as []denizen.Attribute) []attributeShape {
	shapes := make([]attributeShape, len(as))
	for i, a := range as {
		shapes[i] = attributeShape(a)
	}
	return shapes
}

func newProfileShape(p denizen.Profile) *profileShape {
	return &profileShape{reference{string(p.User)}, attributeShapes(p.Attributes)}
}

func listAttributeDefs(c *call) (reply, error) {
	defs, err := c.h.dir.AttributeDefs(c.r.Context(), c.by)
	if err != nil {
		return reply{}, err
	}
	shapes := make([]attributeDefShape, len(defs))
	for i, d := range defs {
		shapes[i] = newAttributeDefShape(d)
	}
	return okJSON(shapes)
}

func defineAttribute(c *call) (reply, error) {
	f, err := asObject(c.given)
	if err != nil {
		return reply{}, err
	}
	d := denizen.AttributeDef{
		Key:              f.text("key"),
		ContentTypes:     f.texts("allowedContentTypes"),
		ContentEncodings: f.texts("allowedContentEncodings"),
		NotEmpty:         !f.flag("canBeEmpty", true),
		MaxBytes:         int(min(max(f.integer("maxBytes"), -1), denizen.MaxAttributeBytes+1)),
		VisibleTo:        denizen.Audience(f.text("visibleTo")),
		WritableBy:       denizen.Audience(f.text("writableBy")),
	}
	if !f.has("key") {
		d.Key = f.text("type")
	}
	if d.Key == "." || d.Key == ".." {
		return reply{}, badValue("key", "must not be a dot segment: no path could name it")
	}
	if kind := f.text("entityType"); *f.err == nil && f.has("entityType") && kind != "users" {
		return reply{}, badValue("entityType", "must be users")
	}
	if *f.err != nil {
		return reply{}, *f.err
	}
	for _, name := range []string{"visibleTo", "writableBy"} {
		if f.has(name) && f.text(name) == "" {
			return reply{}, badValue(name, "must not be empty")
		}
	}
	c.names = map[string]string{"attributeDef": d.Key}
	if _, err := c.h.dir.DefineAttribute(c.r.Context(), c.by, d); err != nil {
		return reply{}, err
	}
	return created(d.Key, "users/"+url.PathEscape(d.Key))
}

func getAttributeDef(c *call) (reply, error) {
	key, err := c.param(0, "key")
	if err != nil {
		return reply{}, err
	}
	d, err := c.h.dir.AttributeDef(c.r.Context(), c.by, key)
	if err != nil {
		return reply{}, err
	}
	return okJSON(newAttributeDefShape(d))
}

func dropAttributeDef(c *call) (reply, error) {
	key, err := c.param(0, "key")
	if err != nil {
		return reply{}, err
	}
	return noContent(c.h.dir.DropAttributeDef(c.r.Context(), c.by, key))
}

func getProfile(c *call) (reply, error) {
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	profile, err := c.h.dir.Profile(c.r.Context(), c.by, id)
	if err != nil {
		return reply{}, err
	}
	encoded := encode(newProfileShape(profile))
	a := reply{status: http.StatusOK, body: json.RawMessage(encoded)}
	if c.by.IsSystem() || c.by.User() == id {
		a.etag = etag(encoded)
	}
	return a, nil
}

// attribute reads an attribute.
func attribute(f fields) denizen.Attribute {
	return denizen.Attribute{
		Key: f.text("key"), ContentType: f.text("contentType"),
		ContentEncoding: f.text("contentEncoding"), Value: f.text("value"),
	}
}

// attributes reads the list of attributes of a profile.
func attributes(f fields) (as []denizen.Attribute, err error) {
	list, _ := f.list("attributes")
	for _, value := range list {
		one := f.element(value, "attributes")
		as = append(as, attribute(one))
		if *f.err == nil && !one.has("value") {
			return nil, badValue("value", "is missing")
		}
	}
	return as, *f.err
}

var patchModes = map[string]denizen.PatchMode{
	"merge": denizen.Merge, "Diff": denizen.Merge, "replace": denizen.Replace, "Set": denizen.Replace,
}

func setAttributes(c *call) (reply, error) {
	f, err := asObject(c.given)
	if err != nil {
		return reply{}, err
	}
	as, err := attributes(f)
	if err != nil {
		return reply{}, err
	}
	mode, known := patchModes[f.text("patchType")]
	switch {
	case *f.err != nil:
		return reply{}, *f.err
	case !f.has("attributes"):
		return reply{}, badValue("attributes", "is missing")
	case !known && f.has("patchType"):
		return reply{}, badValue("patchType", "must be merge or replace")
	}
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	return noContent(withVersion(c, c.profileNow(id), func(expected ...denizen.ProfileVersion) error {
		_, err := c.h.dir.SetAttributes(c.r.Context(), c.by, id, as, mode, expected...)
		return err
	}))
}

func getAttributes(c *call) (reply, error) {
	keys, err := c.listParam(1, "keys")
	if err != nil {
		return reply{}, err
	}
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	as, err := c.h.dir.Attributes(c.r.Context(), c.by, id, keys)
	if err != nil {
		return reply{}, err
	}
	return okJSON(attributeShapes(as))
}

func setAttribute(c *call) (reply, error) {
	f, err := asObject(c.given)
	if err != nil {
		return reply{}, err
	}
	a := attribute(f)
	key, err := c.param(1, "key")
	switch {
	case *f.err != nil:
		return reply{}, *f.err
	case err != nil:
		return reply{}, err
	case !f.has("value"):
		return reply{}, badValue("value", "is missing")
	case f.has("key") && a.Key != key:
		return reply{}, badValue("key", "must be the one of the path")
	}
	a.Key = key
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	return noContent(withVersion(c, c.profileNow(id), func(expected ...denizen.ProfileVersion) error {
		_, err := c.h.dir.SetAttribute(c.r.Context(), c.by, id, a, expected...)
		return err
	}))
}

func removeAttribute(c *call) (reply, error) {
	id, key, err := c.userAndParam("key")
	if err != nil {
		return reply{}, err
	}
	return noContent(withVersion(c, c.profileNow(id), func(expected ...denizen.ProfileVersion) error {
		return c.h.dir.RemoveAttribute(c.r.Context(), c.by, id, key, expected...)
	}))
}
