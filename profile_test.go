package denizen_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

// define defines attributes.
func (h *house) define(t testing.TB, defs ...denizen.AttributeDef) {
	t.Helper()
	for _, def := range defs {
		_, err := h.DefineAttribute(context.Background(), sys, def)
		require.NoError(t, err)
	}
}

// text is an attribute as it is returned.
func text(key, value string) denizen.Attribute {
	return denizen.Attribute{Key: key, ContentType: "text/plain", ContentEncoding: "identity", Value: value}
}

func keysOf(p denizen.Profile) (keys []string) {
	for _, a := range p.Attributes {
		keys = append(keys, a.Key)
	}
	return keys
}

func TestProfile_ADefinitionIsAnsweredWithWhatWasLeftOpenFilledIn(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		for _, row := range []struct{ given, want denizen.AttributeDef }{
			{
				denizen.AttributeDef{Key: "bio"},
				denizen.AttributeDef{Key: "bio", MaxBytes: denizen.MaxAttributeBytes, VisibleTo: denizen.ToSelf, WritableBy: denizen.ToSelf},
			},
			{
				denizen.AttributeDef{
					Key: "avatar", ContentTypes: []string{"image/png", "image/webp"}, ContentEncodings: []string{"base64"}, NotEmpty: true,
					MaxBytes: 1, VisibleTo: denizen.ToPeers, WritableBy: denizen.ToSystem,
				},
				denizen.AttributeDef{
					Key: "avatar", ContentTypes: []string{"image/png", "image/webp"}, ContentEncodings: []string{"base64"}, NotEmpty: true,
					MaxBytes: 1, VisibleTo: denizen.ToPeers, WritableBy: denizen.ToSystem,
				},
			},
		} {
			def, err := h.DefineAttribute(ctx, sys, row.given)
			require.NoError(t, err)
			require.Equal(t, row.want, def)
			def, err = h.AttributeDef(ctx, h.as(t, alice), row.given.Key)
			require.NoError(t, err)
			require.Equal(t, row.want, def)
		}
	})
}

func TestProfile_ADefinitionKeepsToItsRules(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		before := invariant.Of(t, h.store)
		many := make([]string, 33)
		for i := range many {
			many[i] = fmt.Sprint("text/", i)
		}
		for what, row := range map[string]struct {
			def   denizen.AttributeDef
			field string
		}{
			"no key":                       {denizen.AttributeDef{}, "key"},
			"a key of 129 characters":      {denizen.AttributeDef{Key: strings.Repeat("k", 129)}, "key"},
			"a comma in the key":           {denizen.AttributeDef{Key: "a,b"}, "key"},
			"a control in the key":         {denizen.AttributeDef{Key: "a\nb"}, "key"},
			"U+0000 in the key":            {denizen.AttributeDef{Key: "a\x00"}, "key"},
			"a key that is not UTF-8":      {denizen.AttributeDef{Key: "a\xff"}, "key"},
			"an empty content type":        {denizen.AttributeDef{Key: "a", ContentTypes: []string{""}}, "allowedContentTypes"},
			"a content type twice":         {denizen.AttributeDef{Key: "a", ContentTypes: []string{"x/y", "x/y"}}, "allowedContentTypes"},
			"a content type of 129":        {denizen.AttributeDef{Key: "a", ContentTypes: []string{strings.Repeat("x", 129)}}, "allowedContentTypes"},
			"a content type not in ASCII":  {denizen.AttributeDef{Key: "a", ContentTypes: []string{"text/é"}}, "allowedContentTypes"},
			"33 content types":             {denizen.AttributeDef{Key: "a", ContentTypes: many}, "allowedContentTypes"},
			"a line break in an encoding":  {denizen.AttributeDef{Key: "a", ContentEncodings: []string{"x\n"}}, "allowedContentEncodings"},
			"33 encodings":                 {denizen.AttributeDef{Key: "a", ContentEncodings: many}, "allowedContentEncodings"},
			"fewer bytes than none":        {denizen.AttributeDef{Key: "a", MaxBytes: -1}, "maxBytes"},
			"more bytes than any may have": {denizen.AttributeDef{Key: "a", MaxBytes: denizen.MaxAttributeBytes + 1}, "maxBytes"},
			"seen by an unknown audience":  {denizen.AttributeDef{Key: "a", VisibleTo: "all"}, "visibleTo"},
			"written by peers":             {denizen.AttributeDef{Key: "a", WritableBy: denizen.ToPeers}, "writableBy"},
			"written by others":            {denizen.AttributeDef{Key: "a", WritableBy: "anybody"}, "writableBy"},
		} {
			def, err := h.DefineAttribute(ctx, sys, row.def)
			requireField(t, err, denizen.ErrInvalid, row.field)
			require.Zero(t, def, what)
		}
		require.Equal(t, before, invariant.Of(t, h.store))
	})
}

func TestProfile_AnAttributeKeyIsAnyTextButControlsAndCommas(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		for _, key := range []string{"k", strings.Repeat("😀", 128), "a b", "日本語", "a/b:c;d#e@f", `"quoted"\`, ".", " "} {
			h.define(t, denizen.AttributeDef{Key: key})
			p, err := h.SetAttribute(t.Context(), sys, alice, denizen.Attribute{Key: key, Value: key})
			require.NoError(t, err, "%q", key)
			require.Contains(t, p.Attributes, text(key, key))
		}
		invariant.Check(t, h.store)
	})
}

func TestProfile_ADefinitionIsNeverChanged(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.define(t, denizen.AttributeDef{Key: "bio"})
		before := invariant.Of(t, h.store)
		for _, def := range []denizen.AttributeDef{{Key: "bio"}, {Key: "bio", VisibleTo: denizen.ToPeers}} {
			_, err := h.DefineAttribute(t.Context(), sys, def)
			requireField(t, err, denizen.ErrTaken, "key")
		}
		require.Equal(t, before, invariant.Of(t, h.store))
	})
}

func TestProfile_DefinitionsAreListedInTheOrderOfTheirKeys(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		defs, err := h.AttributeDefs(ctx, h.as(t, alice))
		require.NoError(t, err)
		require.Equal(t, []denizen.AttributeDef{}, defs)
		h.define(t, denizen.AttributeDef{Key: "é"}, denizen.AttributeDef{Key: "b"}, denizen.AttributeDef{Key: "B"}, denizen.AttributeDef{Key: "ab"})
		defs, err = h.AttributeDefs(ctx, h.as(t, alice))
		require.NoError(t, err)
		var keys []string
		for _, def := range defs {
			keys = append(keys, def.Key)
		}
		require.Equal(t, []string{"B", "ab", "b", "é"}, keys)
	})
}

func TestProfile_AThousandDefinitionsAndMoreAreListed(t *testing.T) {
	h := &house{store: memory.New()}
	h.Directory = newOver(t, h.store, denizen.Options{})
	for i := range denizen.MaxPage + 1 {
		h.define(t, denizen.AttributeDef{Key: fmt.Sprintf("key %04d", i)})
	}
	defs, err := h.AttributeDefs(t.Context(), sys)
	require.NoError(t, err)
	require.Len(t, defs, denizen.MaxPage+1)
	require.Equal(t, "key 1000", defs[denizen.MaxPage].Key)
}

func TestProfile_ADefinitionThatNobodyUsesIsDropped(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		// One that begins with the same letters and is in use does not count.
		h.define(t, denizen.AttributeDef{Key: "bio"}, denizen.AttributeDef{Key: "biography"})
		h.create(t, alice)
		_, err := h.SetAttribute(ctx, sys, alice, denizen.Attribute{Key: "biography"})
		require.NoError(t, err)
		require.NoError(t, h.DropAttributeDef(ctx, sys, "bio"))
		_, err = h.AttributeDef(ctx, sys, "bio")
		requireField(t, err, denizen.ErrNotFound, "attributeDef")
		requireField(t, h.DropAttributeDef(ctx, sys, "bio"), denizen.ErrNotFound, "attributeDef")
		requireField(t, h.DropAttributeDef(ctx, sys, "a,b"), denizen.ErrInvalid, "key")
		_, err = h.AttributeDef(ctx, sys, "a,b")
		requireField(t, err, denizen.ErrInvalid, "key")
		h.define(t, denizen.AttributeDef{Key: "bio", NotEmpty: true})
	})
}

func TestProfile_ADefinitionInUseIsNotDropped(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.define(t, denizen.AttributeDef{Key: "bio"})
		h.create(t, alice)
		_, err := h.SetAttribute(ctx, sys, alice, denizen.Attribute{Key: "bio"})
		require.NoError(t, err)
		before := invariant.Of(t, h.store)
		requireField(t, h.DropAttributeDef(ctx, sys, "bio"), denizen.ErrConflict, "key")
		require.Equal(t, before, invariant.Of(t, h.store))
		require.NoError(t, h.RemoveAttribute(ctx, sys, alice, "bio"))
		require.NoError(t, h.DropAttributeDef(ctx, sys, "bio"))
	})
}

func TestProfile_OfDroppingADefinitionAndUsingItOneWins(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		for i := range 20 {
			key := fmt.Sprint("key ", i)
			h.define(t, denizen.AttributeDef{Key: key})
			var set, dropped error
			var racing sync.WaitGroup
			racing.Go(func() { _, set = h.SetAttribute(ctx, sys, alice, denizen.Attribute{Key: key}) })
			racing.Go(func() { dropped = h.DropAttributeDef(ctx, sys, key) })
			racing.Wait()
			if set == nil {
				requireField(t, dropped, denizen.ErrConflict, "key")
			} else {
				requireField(t, set, denizen.ErrInvalid, "key")
				require.NoError(t, dropped)
			}
		}
		invariant.Check(t, h.store)
	})
}

func TestProfile_AnAttributeIsReturnedByteForByte(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.define(t, denizen.AttributeDef{Key: "bio"})
		h.create(t, alice)
		for _, value := range []string{
			"", " ", "x", "é", "e\u0301", "日本語 👩‍👧", "\u0001\u001f\u007f\u0085\u2028", `{"a": [1, 2.0, "\u0041"]}`, "<a href='x'>&amp;</a>", "\\u0000", "\r\n",
			strings.Repeat("x", denizen.MaxAttributeBytes), strings.Repeat("\n", denizen.MaxAttributeBytes),
		} {
			_, err := h.SetAttribute(ctx, h.as(t, alice), alice, denizen.Attribute{Key: "bio", Value: value})
			require.NoError(t, err)
			got, err := h.Attributes(ctx, h.as(t, alice), alice, []string{"bio"})
			require.NoError(t, err)
			require.True(t, value == got[0].Value, "%.40q", value)
		}
	})
}

func TestProfile_AnAttributeKeepsToItsDefinition(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.define(t, denizen.AttributeDef{Key: "any"}, denizen.AttributeDef{
			Key: "strict", ContentTypes: []string{"image/png", "text/html"}, ContentEncodings: []string{"base64"}, NotEmpty: true, MaxBytes: 4,
		})
		h.create(t, alice)
		good := denizen.Attribute{Key: "strict", ContentType: "image/png", ContentEncoding: "base64", Value: "abcd"}
		_, err := h.SetAttribute(ctx, sys, alice, good)
		require.NoError(t, err)
		before := invariant.Of(t, h.store)
		for what, row := range map[string]struct {
			a     denizen.Attribute
			field string
		}{
			"no definition":            {denizen.Attribute{Key: "other"}, "key"},
			"a key that is none":       {denizen.Attribute{Key: "a,b"}, "key"},
			"another content type":     {denizen.Attribute{Key: "strict", ContentType: "image/PNG", ContentEncoding: "base64", Value: "x"}, "contentType"},
			"the usual content type":   {denizen.Attribute{Key: "strict", ContentEncoding: "base64", Value: "x"}, "contentType"},
			"another encoding":         {denizen.Attribute{Key: "strict", ContentType: "image/png", ContentEncoding: "gzip", Value: "x"}, "contentEncoding"},
			"the usual encoding":       {denizen.Attribute{Key: "strict", ContentType: "image/png", Value: "x"}, "contentEncoding"},
			"empty":                    {denizen.Attribute{Key: "strict", ContentType: "image/png", ContentEncoding: "base64"}, "value"},
			"a byte too long":          {denizen.Attribute{Key: "strict", ContentType: "image/png", ContentEncoding: "base64", Value: "abcde"}, "value"},
			"bytes count, not letters": {denizen.Attribute{Key: "strict", ContentType: "image/png", ContentEncoding: "base64", Value: "日本"}, "value"},
			"longer than any":          {denizen.Attribute{Key: "any", Value: strings.Repeat("x", denizen.MaxAttributeBytes+1)}, "value"},
			"no UTF-8":                 {denizen.Attribute{Key: "any", Value: "x\xff"}, "value"},
			"a lone surrogate":         {denizen.Attribute{Key: "any", Value: "\xed\xa0\x80"}, "value"},
			"U+0000":                   {denizen.Attribute{Key: "any", Value: "x\x00y"}, "value"},
			"a content type that is":   {denizen.Attribute{Key: "any", ContentType: "text/plain\r\nX: y"}, "contentType"},
			"a long encoding":          {denizen.Attribute{Key: "any", ContentEncoding: strings.Repeat("x", 129)}, "contentEncoding"},
		} {
			_, err := h.SetAttribute(ctx, sys, alice, row.a)
			requireField(t, err, denizen.ErrInvalid, row.field)
			if row.a.Value != "" && len(row.a.Value) < 9 && row.a.Value != "x" {
				require.NotContains(t, err.Error(), row.a.Value)
			}
			// With a good one beside it neither is set.
			_, err = h.SetAttributes(ctx, sys, alice, []denizen.Attribute{{Key: "any", Value: "new"}, row.a}, denizen.Merge)
			require.ErrorIs(t, err, denizen.ErrInvalid, what)
		}
		require.Equal(t, before, invariant.Of(t, h.store))
		_, err = h.SetAttribute(ctx, sys, alice, denizen.Attribute{Key: "any", ContentType: "application/x; charset=utf-8", ContentEncoding: "br"})
		require.NoError(t, err, "none listed: any")
	})
}

func TestProfile_MergingLeavesTheOthersAndReplacingRemovesThem(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.define(t, denizen.AttributeDef{Key: "a"}, denizen.AttributeDef{Key: "b"}, denizen.AttributeDef{Key: "c"})
		h.create(t, alice)
		p, err := h.SetAttributes(ctx, sys, alice, []denizen.Attribute{{Key: "b", Value: "1"}, {Key: "a", Value: "1"}}, denizen.Merge)
		require.NoError(t, err)
		require.Equal(t, []denizen.Attribute{text("a", "1"), text("b", "1")}, p.Attributes, "in the order of the keys")
		p, err = h.SetAttributes(ctx, sys, alice, []denizen.Attribute{{Key: "c", Value: "2"}, {Key: "b", Value: "2"}}, denizen.Merge)
		require.NoError(t, err)
		require.Equal(t, []denizen.Attribute{text("a", "1"), text("b", "2"), text("c", "2")}, p.Attributes)
		after := head(t, h)
		p, err = h.SetAttributes(ctx, sys, alice, []denizen.Attribute{{Key: "b", Value: "2"}}, denizen.Replace)
		require.NoError(t, err)
		require.Equal(t, []denizen.Attribute{text("b", "2")}, p.Attributes)
		require.Equal(t, []string{"a", "c"}, eventsAfter(t, h.Directory, after)[0].Subjects, "what changed, and no values")
		read, err := h.Profile(ctx, sys, alice)
		require.NoError(t, err)
		require.Equal(t, p, read)
		p, err = h.SetAttributes(ctx, sys, alice, nil, denizen.Replace)
		require.NoError(t, err)
		require.Equal(t, denizen.Profile{User: alice, Attributes: []denizen.Attribute{}}, p)
		invariant.Check(t, h.store)
	})
}

func TestProfile_SettingSeveralKeepsToItsLimits(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.define(t, denizen.AttributeDef{Key: "a"})
		h.create(t, alice)
		_, err := h.SetAttributes(ctx, sys, alice, slices.Repeat([]denizen.Attribute{{Key: "a"}}, denizen.MaxList+1), denizen.Merge)
		requireField(t, err, denizen.ErrInvalid, "attributes")
		_, err = h.SetAttributes(ctx, sys, alice, []denizen.Attribute{{Key: "a"}, {Key: "a"}}, denizen.Merge)
		requireField(t, err, denizen.ErrInvalid, "attributes")
		_, err = h.SetAttributes(ctx, sys, alice, nil, denizen.Replace+1)
		requireField(t, err, denizen.ErrInvalid, "patchType")
		_, err = h.SetAttribute(ctx, sys, bob, denizen.Attribute{Key: "a"})
		requireField(t, err, denizen.ErrNotFound, "user")
	})
}

func TestProfile_AllAttributesOfAUserTogetherHaveALimit(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		// Five keys of one letter: four values of 64 KiB are too much by the keys and types.
		for _, key := range []string{"a", "b", "c", "d", "e"} {
			h.define(t, denizen.AttributeDef{Key: key})
		}
		full := strings.Repeat("x", denizen.MaxAttributeBytes)
		rest := denizen.MaxAttributeBytes - 4*len("a"+"text/plain"+"identity")
		attributes := []denizen.Attribute{{Key: "a", Value: full}, {Key: "b", Value: full}, {Key: "c", Value: full}, {Key: "d", Value: full[:rest]}}
		_, err := h.SetAttributes(ctx, sys, alice, attributes, denizen.Merge)
		require.NoError(t, err)
		before := invariant.Of(t, h.store)
		_, err = h.SetAttribute(ctx, sys, alice, denizen.Attribute{Key: "d", Value: full[:rest+1]})
		requireField(t, err, denizen.ErrLimited, "attributes")
		_, err = h.SetAttribute(ctx, sys, alice, denizen.Attribute{Key: "e"})
		requireField(t, err, denizen.ErrLimited, "attributes")
		require.Equal(t, before, invariant.Of(t, h.store))
		_, err = h.SetAttributes(ctx, sys, alice, []denizen.Attribute{{Key: "e", Value: full}}, denizen.Replace)
		require.NoError(t, err, "what is removed makes room")
	})
}

// audiences defines an attribute for each audience that sees and each that writes, named
// by both, and gives Alice all of them.
func audiences(t testing.TB, h *house) {
	t.Helper()
	h.create(t, alice)
	for _, sees := range []denizen.Audience{denizen.ToPeers, denizen.ToSelf, denizen.ToSystem} {
		for _, writes := range []denizen.Audience{denizen.ToSelf, denizen.ToSystem} {
			key := string(sees + "/" + writes)
			h.define(t, denizen.AttributeDef{Key: key, VisibleTo: sees, WritableBy: writes})
			_, err := h.SetAttribute(context.Background(), sys, alice, denizen.Attribute{Key: key, Value: "set by .system"})
			require.NoError(t, err)
		}
	}
}

func TestProfile_ADefinitionSaysWhoSeesAnAttribute(t *testing.T) {
	all := func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) { return true, nil }
	inHouses(t, denizen.Options{MaySee: all}, func(t *testing.T, h *house) {
		ctx := t.Context()
		audiences(t, h)
		h.create(t, bob)
		peers := []string{"peers/self", "peers/system"}
		self := append(slices.Clone(peers), "self/self", "self/system")
		system := append(slices.Clone(self), "system/self", "system/system")
		for what, row := range map[string]struct {
			by   denizen.Principal
			sees []string
		}{"a peer": {h.as(t, bob), peers}, "the user": {h.as(t, alice), self}, ".system": {sys, system}} {
			for range 2 { // the second result is from the cache
				p, err := h.Profile(ctx, row.by, alice)
				require.NoError(t, err)
				require.Equal(t, row.sees, keysOf(p), what)
			}
			for _, key := range system {
				got, err := h.Attributes(ctx, row.by, alice, []string{key})
				if slices.Contains(row.sees, key) {
					require.NoError(t, err)
					require.Equal(t, []denizen.Attribute{text(key, "set by .system")}, got)
				} else {
					requireField(t, err, denizen.ErrNotFound, "attribute") // as one that is not there
				}
			}
		}
	})
}

func TestProfile_ADefinitionSaysWhoWritesAnAttribute(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		audiences(t, h)
		by := h.as(t, alice)
		for _, sees := range []string{"peers", "self", "system"} {
			p, err := h.SetAttribute(ctx, by, alice, denizen.Attribute{Key: sees + "/self", Value: "by Alice"})
			require.NoError(t, err)
			require.NotContains(t, keysOf(p), "system/self", "it is shown what it may write and not see")
			before := invariant.Of(t, h.store)
			for _, value := range []string{"by Alice", "set by .system"} { // also where nothing would change
				_, err = h.SetAttribute(ctx, by, alice, denizen.Attribute{Key: sees + "/system", Value: value})
				requireField(t, err, denizen.ErrDenied, "key")
			}
			requireField(t, h.RemoveAttribute(ctx, by, alice, sees+"/system"), denizen.ErrDenied, "key")
			require.Equal(t, before, invariant.Of(t, h.store))
		}
	})
}

func TestProfile_AUserWhoReplacesItsProfileKeepsWhatItMayNotWrite(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		audiences(t, h)
		p, err := h.SetAttributes(ctx, h.as(t, alice), alice, []denizen.Attribute{{Key: "self/self", Value: "new"}}, denizen.Replace)
		require.NoError(t, err)
		require.Equal(t, []string{"peers/system", "self/self", "self/system"}, keysOf(p))
		all, err := h.Profile(ctx, sys, alice)
		require.NoError(t, err)
		require.Equal(t, []string{"peers/system", "self/self", "self/system", "system/system"}, keysOf(all))
		require.Equal(t, p.Version, all.Version)
		_, err = h.SetAttributes(ctx, h.as(t, alice), alice, []denizen.Attribute{{Key: "self/self"}, {Key: "self/system"}}, denizen.Replace)
		requireField(t, err, denizen.ErrDenied, "key")
		all, err = h.SetAttributes(ctx, sys, alice, nil, denizen.Replace)
		require.NoError(t, err)
		require.Empty(t, all.Attributes)
		invariant.Check(t, h.store)
	})
}

func TestProfile_AttributesAreAnsweredInTheOrderAskedAllOrNone(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.define(t, denizen.AttributeDef{Key: "a"}, denizen.AttributeDef{Key: "b"}, denizen.AttributeDef{Key: "c"})
		h.create(t, alice)
		_, err := h.SetAttributes(ctx, sys, alice, []denizen.Attribute{{Key: "a"}, {Key: "b"}}, denizen.Merge)
		require.NoError(t, err)
		got, err := h.Attributes(ctx, sys, alice, []string{"b", "a"})
		require.NoError(t, err)
		require.Equal(t, []denizen.Attribute{text("b", ""), text("a", "")}, got)
		got, err = h.Attributes(ctx, sys, alice, []string{"b", "c"})
		requireField(t, err, denizen.ErrNotFound, "attribute")
		require.Nil(t, got)
		_, err = h.Attributes(ctx, sys, alice, []string{"a,b"})
		requireField(t, err, denizen.ErrInvalid, "key")
		_, err = h.Attributes(ctx, sys, alice, slices.Repeat([]string{"a"}, denizen.MaxList+1))
		requireField(t, err, denizen.ErrInvalid, "attributes")
		got, err = h.Attributes(ctx, sys, alice, nil)
		require.NoError(t, err)
		require.Empty(t, got)
		_, err = h.Attributes(ctx, sys, bob, nil)
		requireField(t, err, denizen.ErrNotFound, "user")
	})
}

func TestProfile_AnAttributeIsRemoved(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.define(t, denizen.AttributeDef{Key: "a"}, denizen.AttributeDef{Key: "b"})
		h.create(t, alice)
		_, err := h.SetAttributes(ctx, sys, alice, []denizen.Attribute{{Key: "a"}, {Key: "b"}}, denizen.Merge)
		require.NoError(t, err)
		require.NoError(t, h.RemoveAttribute(ctx, h.as(t, alice), alice, "a"))
		for _, key := range []string{"a", "not defined"} {
			requireField(t, h.RemoveAttribute(ctx, h.as(t, alice), alice, key), denizen.ErrNotFound, "attribute")
		}
		requireField(t, h.RemoveAttribute(ctx, sys, alice, "a,b"), denizen.ErrInvalid, "key")
		require.NoError(t, h.RemoveAttribute(ctx, sys, alice, "b"))
		p, err := h.Profile(ctx, sys, alice)
		require.NoError(t, err)
		require.Equal(t, denizen.Profile{User: alice, Attributes: []denizen.Attribute{}}, p)
		invariant.Check(t, h.store)
	})
}

func TestProfile_AProfileIsWrittenAtTheExpectedVersionAlone(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.define(t, denizen.AttributeDef{Key: "a"})
		h.create(t, alice)
		set := func(value string, v ...denizen.ProfileVersion) (denizen.Profile, error) {
			return h.SetAttribute(ctx, sys, alice, denizen.Attribute{Key: "a", Value: value}, v...)
		}
		_, err := set("1", 1)
		requireField(t, err, denizen.ErrConflict, "version")
		first, err := set("1", 0) // a profile that is not there
		require.NoError(t, err)
		require.NotZero(t, first.Version)
		second, err := set("2", first.Version)
		require.NoError(t, err)
		require.Greater(t, second.Version, first.Version)
		before := invariant.Of(t, h.store)
		for _, v := range []denizen.ProfileVersion{0, first.Version} {
			_, err = set("3", v)
			requireField(t, err, denizen.ErrConflict, "version")
			_, err = h.SetAttributes(ctx, sys, alice, nil, denizen.Replace, v)
			requireField(t, err, denizen.ErrConflict, "version")
			requireField(t, h.RemoveAttribute(ctx, sys, alice, "a", v), denizen.ErrConflict, "version")
		}
		_, err = set("3", second.Version, first.Version)
		requireField(t, err, denizen.ErrConflict, "version")
		same, err := set("2", second.Version)
		require.NoError(t, err)
		require.Equal(t, second, same, "nothing changed")
		require.Equal(t, before, invariant.Of(t, h.store))
		u, err := h.User(ctx, sys, alice)
		require.NoError(t, err)
		_, err = h.SetScreenName(ctx, sys, alice, "Another", u.Version)
		require.NoError(t, err, "the user has a version of its own")
		require.NoError(t, h.RemoveAttribute(ctx, sys, alice, "a", second.Version))
	})
}

// late fails every read once a commit went through.
type late struct {
	store.Store
	armed, failing bool
}

func (s *late) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	seq, err := s.Store.Commit(ctx, b)
	s.failing = s.armed && err == nil
	return seq, err
}

func (s *late) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if s.failing {
		return nil, store.ErrUnavailable
	}
	return s.Store.Get(ctx, keys...)
}

func TestProfile_AProfileThatWasWrittenIsNeverCalledUnavailable(t *testing.T) {
	s := &late{Store: memory.New()}
	h := &house{newOver(t, s, denizen.Options{}), s}
	h.define(t, denizen.AttributeDef{Key: "a"})
	h.create(t, alice)
	by := h.as(t, alice)
	s.armed = true
	p, err := h.SetAttribute(t.Context(), by, alice, denizen.Attribute{Key: "a", Value: "1"})
	require.NoError(t, err)
	require.Equal(t, []denizen.Attribute{text("a", "1")}, p.Attributes)
}

// What a small change of a full profile costs on disk: the profile is one record, which is
// written anew. It reports bytes written by the process for a change, where the system counts them.
//
//	go test -run '^$' -bench FullProfile -benchtime 200x .
func BenchmarkASmallChangeOfAFullProfile(b *testing.B) {
	for _, size := range []int{0, 16 << 10, 64 << 10, 240 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			d := newBolt(b, denizen.Options{})
			newUser(b, d, alice)
			set := func(key, value string) {
				_, err := d.SetAttribute(b.Context(), sys, alice, denizen.Attribute{Key: key, Value: value})
				require.NoError(b, err)
			}
			for i := range 5 {
				_, err := d.DefineAttribute(b.Context(), sys, denizen.AttributeDef{Key: fmt.Sprint(i)})
				require.NoError(b, err)
			}
			for i := range 4 {
				if size > 0 {
					set(fmt.Sprint(i), strings.Repeat("v", size/4))
				}
			}
			before := written()
			i := 0
			for b.Loop() {
				i++
				set("4", fmt.Sprint(i))
			}
			if before > 0 {
				b.ReportMetric(float64(written()-before)/float64(i), "written-B/op")
			}
		})
	}
}

// written returns the bytes that this process wrote so far, 0 where the system does not count them.
func written() (bytes int64) {
	counts, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(counts), "wchar: ")
	_, _ = fmt.Sscan(after, &bytes)
	return bytes
}

func TestProfile_ADefinitionThatOnlyADeletedUserUsedMayBeDropped(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "bio"})
		require.NoError(t, err)
		h.create(t, alice)
		_, err = h.SetAttribute(ctx, sys, alice, denizen.Attribute{Key: "bio"})
		require.NoError(t, err)
		require.NoError(t, h.DeleteUser(ctx, sys, alice))
		require.NoError(t, h.DropAttributeDef(ctx, sys, "bio"))
	})
}
