package httpadapter

import (
	"errors"
	"net/http"
	"time"

	"github.com/denizenhq/denizen"
)

type accessKey struct {
	Key string `json:"key"`
}

type accessSecret struct {
	Secret string `json:"secret"`
}

// application refuses a path that names another application than this directory's.
func (c *call) application() error {
	if c.params[0] != c.h.dir.ApplicationID() {
		return missingContext("application")
	}
	return nil
}

func listAccessKeys(c *call) (reply, error) {
	if err := c.application(); err != nil {
		return reply{}, err
	}
	keys, err := c.h.dir.AccessKeys(c.r.Context(), c.by)
	if err != nil {
		return reply{}, err
	}
	type shape struct {
		AccessKey  accessKey `json:"accessKey"`
		CreatedAt  int64     `json:"createdAt"`
		LastUsed   *int64    `json:"lastUsed"`
		LastAction *string   `json:"lastAction"`
	}
	shapes := make([]shape, len(keys))
	for i, k := range keys {
		shapes[i] = shape{
			AccessKey: accessKey{k.Key}, CreatedAt: unixMillis(k.CreatedAt),
			LastUsed: millisOrNull(k.LastUsedAt),
		}
		if k.LastAction != "" {
			shapes[i].LastAction = &k.LastAction
		}
	}
	return okJSON(shapes)
}

func createAccessKey(c *call) (reply, error) {
	if err := c.application(); err != nil {
		return reply{}, err
	}
	k, err := c.h.dir.CreateAccessKey(c.r.Context(), c.by)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusCreated, location: "accessKeys/" + k.Key, body: struct {
		AccessKey    accessKey    `json:"accessKey"`
		AccessSecret accessSecret `json:"accessSecret"`
		CreatedAt    int64        `json:"createdAt"`
	}{accessKey{k.Key}, accessSecret{k.Secret}, unixMillis(k.CreatedAt)}}, nil
}

func deleteAccessKey(c *call) (reply, error) {
	if err := c.application(); err != nil {
		return reply{}, err
	}
	key, err := c.param(1, "accessKey")
	if err != nil {
		return reply{}, err
	}
	q, err := c.query()
	if err != nil {
		return reply{}, err
	}
	tokens, err := singleQuery(q, "tokens")
	switch {
	case err != nil:
		return reply{}, err
	case !q.Has("tokens"):
		return noContent(c.h.dir.DeleteAccessKey(c.r.Context(), c.by, key))
	case tokens != "revoke":
		return reply{}, badValue("tokens", "must be revoke")
	}
	return noContent(c.deleteKeyAndTokens(key))
}

// deleteKeyAndTokens deletes an access key and then ends the tokens that were issued with it. The
// key may be gone since an earlier request that could not end all of them.
func (c *call) deleteKeyAndTokens(key string) error {
	gone := c.h.dir.DeleteAccessKey(c.r.Context(), c.by, key)
	if gone != nil && !errors.Is(gone, denizen.ErrNotFound) {
		return gone
	}
	n, err := c.h.dir.RevokeTokensIssuedBy(c.r.Context(), c.by, key)
	if err == nil && n == 0 {
		return gone
	}
	return err
}

// listSigningKeys lists what others check signatures with. No secret is in it.
func listSigningKeys(c *call) (reply, error) {
	if err := c.application(); err != nil {
		return reply{}, err
	}
	if !c.by.IsSystem() {
		return reply{}, c.missingPrivilege()
	}
	return publicKeys(c)
}

func rotateSigningKey(c *call) (reply, error) {
	if err := c.application(); err != nil {
		return reply{}, err
	}
	var notice time.Duration
	if c.given != nil {
		f, err := asObject(c.given)
		if err != nil {
			return reply{}, err
		}
		if notice = f.seconds("notice"); *f.err != nil {
			return reply{}, *f.err
		}
	}
	return noContent(c.h.dir.RotateSigningKey(c.r.Context(), c.by, notice))
}

func dropSigningKey(c *call) (reply, error) {
	if err := c.application(); err != nil {
		return reply{}, err
	}
	id, err := c.param(1, "keyId")
	if err != nil {
		return reply{}, err
	}
	return noContent(c.h.dir.DropSigningKey(c.r.Context(), c.by, id))
}

func publicKeys(c *call) (reply, error) {
	keys, err := c.h.dir.PublicKeys(c.r.Context())
	if err != nil {
		return reply{}, err
	}
	return okJSON(keys)
}
