package httpadapter

import "net/http"

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
		shapes[i] = shape{AccessKey: accessKey{k.Key}, CreatedAt: millis(k.CreatedAt), LastUsed: sinceUsed(k.LastUsedAt)}
		if k.LastAction != "" {
			shapes[i].LastAction = &k.LastAction
		}
	}
	return ok(shapes)
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
	}{accessKey{k.Key}, accessSecret{k.Secret}, millis(k.CreatedAt)}}, nil
}

func deleteAccessKey(c *call) (reply, error) {
	if err := c.application(); err != nil {
		return reply{}, err
	}
	key, err := c.param(1, "accessKey")
	if err != nil {
		return reply{}, err
	}
	return done(c.h.dir.DeleteAccessKey(c.r.Context(), c.by, key))
}

func publicKeys(c *call) (reply, error) {
	keys, err := c.h.dir.PublicKeys(c.r.Context())
	if err != nil {
		return reply{}, err
	}
	return ok(keys)
}
