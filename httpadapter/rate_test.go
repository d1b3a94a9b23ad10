package httpadapter_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

func TestAUserWhoChangesTooMuchIsToldWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, denizen.Options{UserEventBurst: 2, UserEventInterval: 30 * time.Second}, httpadapter.Options{})
		alice, _ := a.token(t, a.create(t, "alice-0001"))
		bob, _ := a.token(t, a.create(t, "bob-00001"))
		name := func(text string, by edit) answer {
			return a.do("PUT", "/v1/users/me/screenname", `{"screenName":"`+text+`"}`, by)
		}
		require.Equal(t, 204, name("One", bearer(alice)).status)
		require.Equal(t, 204, name("Two", bearer(alice)).status)
		refused := name("Three", bearer(alice))
		require.Empty(t, refused.refused(t, 429, "rate_limited").Diagnostics)
		require.Equal(t, "30", refused.header.Get("Retry-After"))
		require.Equal(t, "Two", member(t, a.do("GET", "/v1/users/me", "", bearer(alice)).body, "screenName.screenName"))

		require.Equal(t, 204, name("Another", bearer(bob)).status, "others are not slowed down")
		require.Equal(t, 204, name("By the application", actingFor("alice-0001")).status, "nor is the application")
		time.Sleep(30 * time.Second)
		require.Equal(t, 204, name("Three", bearer(alice)).status)
		require.Equal(t, 429, name("Four", bearer(alice)).status)
		require.Equal(t, 204, a.do("DELETE", "/v1/users/me/tokens", "", bearer(alice)).status, "leaving is never refused")
	})
}

// A token that is extended too often is not at the end of its life: its user may come back.
func TestAUserWhoExtendsATokenTooOftenIsToldWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, denizen.Options{UserEventBurst: 1, UserEventInterval: 30 * time.Second}, httpadapter.Options{})
		token, id := a.token(t, a.create(t, "alice-0001"))
		extend := func(ttl string) answer {
			return a.do("PATCH", "/v1/users/me/tokens/"+id, `{"ttl":`+ttl+`}`, bearer(token))
		}
		require.Equal(t, 200, extend("100000").status)
		limited := extend("200000")
		limited.refused(t, 429, "rate_limited")
		require.Equal(t, "30", limited.header.Get("Retry-After"))
		extend("1").refused(t, 403, "ttl_extension_refused")
		time.Sleep(30 * time.Second)
		require.Equal(t, 200, extend("200000").status)
	})
}
