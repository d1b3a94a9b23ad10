package httpadapter

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/wire"
)

type tokenShape struct {
	TokenID denizen.TokenID `json:"tokenId"`
	TTL     int64           `json:"ttl"`
	Token   struct {
		Token string `json:"token"` // for clients that look for it: always empty
	} `json:"token"`
	IssuedAt   int64  `json:"issuedAt"`
	ExpiresAt  int64  `json:"expiresAt"`
	LastUsedAt *int64 `json:"lastUsedAt"`
	Label      string `json:"label"`
}

// newIssuedToken returns the body that shows a token. See isAmbient.
func (c *call) newIssuedToken(t denizen.IssuedToken) wire.IssuedToken {
	return wire.NewIssuedToken(t, headerToken, c.h.options.cookieNames())
}

func issueToken(c *call) (reply, error) {
	var o denizen.TokenOptions
	if c.given != nil {
		f, err := asObject(c.given)
		if err != nil {
			return reply{}, err
		}
		o.TTL, o.MaxTTL, o.Label = f.seconds("ttl"), f.seconds("maxTtl"), f.text("label")
		switch {
		case *f.err != nil:
			return reply{}, *f.err
		case f.has("ttl") && o.TTL <= 0:
			return reply{}, badValue("ttl", "must be a second at least")
		case f.has("maxTtl") && o.MaxTTL <= 0:
			return reply{}, badValue("maxTtl", "must be a second at least")
		}
	}
	reserved := c.params[0] == ".system" || c.params[0] == ".anonymous"
	id := denizen.UserID(c.params[0])
	if !reserved {
		var err error
		if id, err = c.user(); err != nil {
			return reply{}, err
		}
	}
	t, err := c.h.dir.IssueToken(c.r.Context(), c.by, id, o)
	if reserved && errors.Is(err, denizen.ErrInvalid) {
		return reply{}, newRefusal(http.StatusForbidden, "token_issuance_refused",
			"there are no tokens for "+c.params[0])
	}
	e, is := errors.AsType[*denizen.Error](err)
	if is && e.Kind == denizen.ErrDenied && e.Field == "user" {
		return reply{}, newRefusal(http.StatusForbidden, "token_issuance_refused",
			"there are no tokens for a blocked user")
	}
	if err != nil {
		return reply{}, err
	}
	return reply{
		status: http.StatusCreated, body: c.newIssuedToken(t), location: "tokens/" + string(t.ID),
	}, nil
}

func listTokens(c *call) (reply, error) {
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	tokens, err := c.h.dir.Tokens(c.r.Context(), c.by, id)
	if err != nil {
		return reply{}, err
	}
	shapes := make([]tokenShape, len(tokens))
	for i, t := range tokens {
		shapes[i] = tokenShape{
			TokenID: t.ID, TTL: secondsLeft(t.ExpiresAt),
			IssuedAt: unixMillis(t.IssuedAt), ExpiresAt: unixMillis(t.ExpiresAt),
			LastUsedAt: millisOrNull(t.LastUsedAt), Label: t.Label,
		}
	}
	return okJSON(shapes)
}

// secondsLeft returns how many seconds are left until t, rounded, and 0 once it has passed.
func secondsLeft(t time.Time) int64 {
	return int64(max(time.Until(t), 0).Round(time.Second) / time.Second)
}

// millisOrNull returns t in Unix milliseconds, null for what never happened.
func millisOrNull(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	at := t.UnixMilli()
	return &at
}

func extendToken(c *call) (reply, error) {
	f, err := asObject(c.given)
	if err != nil {
		return reply{}, err
	}
	ttl := f.seconds("ttl")
	switch {
	case *f.err != nil:
		return reply{}, *f.err
	case ttl <= 0:
		return reply{}, badValue("ttl", "must be a second at least")
	}
	user, id, err := c.userAndParam("tokenId")
	if err != nil {
		return reply{}, err
	}
	t, err := c.h.dir.ExtendToken(c.r.Context(), c.by, user, denizen.TokenID(id), ttl)
	if e, is := errors.AsType[*denizen.Error](err); is {
		switch {
		case e.Kind == denizen.ErrExpired:
			return reply{}, newRefusal(http.StatusForbidden, "ttl_extension_refused",
				"the token is past its end")
		case e.Kind == denizen.ErrLimited && e.Field == "ttl":
			return reply{}, newRefusal(http.StatusForbidden, "ttl_extension_refused", "ttl "+e.Reason)
		}
	}
	if err != nil {
		return reply{}, err
	}
	issued := c.newIssuedToken(t)
	if c.credential.isAmbient() {
		// A script of the page must not get out of the request what HttpOnly keeps from it.
		issued.UserToken.SignedToken = ""
		if c.credential.kind == kindCookie && t.ID == c.by.Token() {
			SetTokenCookie(c.w, t)
		}
	}
	return okJSON(issued)
}

func revokeTokens(c *call) (reply, error) {
	parts, err := c.listParam(1, "tokenIds")
	if err != nil {
		return reply{}, err
	}
	user, err := c.user()
	if err != nil {
		return reply{}, err
	}
	ids := make([]denizen.TokenID, len(parts))
	for i, part := range parts {
		ids[i] = denizen.TokenID(part)
	}
	return noContent(c.h.dir.RevokeTokens(c.r.Context(), c.by, user, ids...))
}

// revokeAllTokens ends all tokens of a user, or all but the one of the request.
func revokeAllTokens(c *call) (reply, error) {
	q, err := c.query()
	if err != nil {
		return reply{}, err
	}
	except, err := singleQuery(q, "except")
	switch {
	case err != nil:
		return reply{}, err
	case q.Has("except") && except != "current":
		return reply{}, badValue("except", "must be current")
	case q.Has("except") && c.by.Token() == "":
		return reply{}, badValue("except", "needs a request that came with a token")
	}
	user, err := c.user()
	if err != nil {
		return reply{}, err
	}
	if q.Has("except") {
		return noContent(c.revokeOthers(user))
	}
	err = c.h.dir.RevokeAllTokens(c.r.Context(), c.by, user)
	if err == nil && c.credential.kind == kindCookie {
		ClearTokenCookie(c.w)
	}
	return noContent(err)
}

// revokeOthers ends the tokens of a user but the one of the request. It lists them again where one
// of them has ended meanwhile, as several are revoked all or none.
func (c *call) revokeOthers(user denizen.UserID) error {
	const tries = 4
	for try := 1; ; try++ {
		tokens, err := c.h.dir.Tokens(c.r.Context(), c.by, user)
		if err != nil {
			return err
		}
		var ids []denizen.TokenID
		for _, t := range tokens {
			if t.ID != c.by.Token() {
				ids = append(ids, t.ID)
			}
		}
		for part := range slices.Chunk(ids, denizen.MaxList) {
			if err = c.h.dir.RevokeTokens(c.r.Context(), c.by, user, part...); err != nil {
				break
			}
		}
		e, ok := errors.AsType[*denizen.Error](err)
		if !ok || e.Kind != denizen.ErrNotFound || e.Field != "token" || try == tries {
			return err
		}
	}
}
