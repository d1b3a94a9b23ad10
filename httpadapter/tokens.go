package httpadapter

import (
	"errors"
	"net/http"
	"time"

	"github.com/denizenhq/denizen"
)

type issuedToken struct {
	UserToken struct {
		SignedToken      string          `json:"signedToken"`
		SupportedHeaders []string        `json:"supportedHeaders"`
		SupportedCookies []string        `json:"supportedCookies"`
		TokenID          denizen.TokenID `json:"tokenId"`
	} `json:"userToken"`
}

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

func newIssuedToken(t denizen.IssuedToken) (s issuedToken) {
	s.UserToken.SignedToken, s.UserToken.TokenID = t.Signed, t.ID
	s.UserToken.SupportedHeaders = []string{headerToken}
	s.UserToken.SupportedCookies = cookieNames[:]
	return s
}

func issueToken(c *call) (reply, error) {
	var o denizen.TokenOptions
	if c.given != nil {
		f, err := asObject(c.given)
		if err != nil {
			return reply{}, err
		}
		o.TTL, o.Label = f.seconds("ttl"), f.text("label")
		switch {
		case *f.err != nil:
			return reply{}, *f.err
		case f.has("ttl") && o.TTL <= 0:
			return reply{}, badValue("ttl", "must be a second at least")
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
		return reply{}, refuse(http.StatusForbidden, "token_issuance_refused", "there are no tokens for "+c.params[0])
	}
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusCreated, body: newIssuedToken(t), location: "tokens/" + string(t.ID)}, nil
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
			TokenID: t.ID, TTL: int64(t.ExpiresAt.Sub(t.IssuedAt) / time.Second),
			IssuedAt: millis(t.IssuedAt), ExpiresAt: millis(t.ExpiresAt), LastUsedAt: sinceUsed(t.LastUsedAt), Label: t.Label,
		}
	}
	return ok(shapes)
}

// sinceUsed is null for what was never used.
func sinceUsed(t time.Time) *int64 {
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
	user, id, err := c.userAnd("tokenId")
	if err != nil {
		return reply{}, err
	}
	t, err := c.h.dir.ExtendToken(c.r.Context(), c.by, user, denizen.TokenID(id), ttl)
	if err != nil {
		return reply{}, err
	}
	return ok(newIssuedToken(t))
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
	return done(c.h.dir.RevokeTokens(c.r.Context(), c.by, user, ids...))
}
