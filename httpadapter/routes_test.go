package httpadapter

import (
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
)

var update = flag.Bool("update", false, "write testdata/routes.txt")

func TestTheRoutesAreTheGoldenOnes(t *testing.T) {
	var lines []string
	for _, r := range routes {
		lines = append(lines, r.method+" "+r.pattern)
	}
	slices.Sort(lines)
	text := strings.Join(lines, "\n") + "\n"
	if *update {
		require.NoError(t, os.WriteFile("testdata/routes.txt", []byte(text), 0o600))
	}
	golden, err := os.ReadFile("testdata/routes.txt")
	require.NoError(t, err)
	require.Equal(t, string(golden), text)
}

// notServed are the directory's methods that have no route, and why.
var notServed = map[string]string{
	"ActAs":                "is the header X-Mitter-Sudo-User-Id",
	"Authenticate":         "is the Bearer, the header and the cookie",
	"AuthenticateKey":      "is Basic authorization",
	"AuthenticateSigned":   "is the signed request",
	"ResolveUser":          "is a locator or me in place of a user id",
	"UsersByLocator":       "is GET /v1/users?locators=",
	"Locate":               "is the same, by the locators of those it finds",
	"MoveLocator":          "is for programs",
	"RevealLocator":        "is for people who look, such as operators",
	"RecentEvents":         "is for people who look, such as operators",
	"CheckLocators":        "is for programs, before a new version of one",
	"RekeyLocators":        "is for programs, after a new version of one",
	"CountUsers":           "is a header of GET /v1/users",
	"CancelUndo":           "is for operators, of what package signin tells users",
	"UnblockUser":          "is PATCH /v1/users/{userId} with blocked false",
	"WatchPresence":        "is for programs",
	"Present":              "is for programs",
	"CountPresent":         "is for programs",
	"LastActive":           "is for programs",
	"Presence":             "is Presences of one user",
	"ClearAllPresence":     "is DELETE of presence without ?device=",
	"Health":               "is for the host's own health check",
	"Stats":                "is for operators",
	"Backup":               "is for operators",
	"Rekey":                "is for operators",
	"Compact":              "is for operators",
	"AllUsers":             "is for programs: GET /v1/users pages",
	"ProveLocator":         "signing in is the host's, which does it before IssueToken",
	"RevokeTokensIssuedBy": "is DELETE of an access key with ?tokens=revoke",
	"PutAccessKey":         "a secret comes from the host's configuration, not over the network",
	"Check":                "is for connections that stay open",
	"Follow":               "is GET /v1/events, which waits for more",
	"Notify":               "is for programs",
	"Consumers":            "is for programs",
	"ResetConsumer":        "is for programs",
	"DeleteConsumer":       "is for programs",
	"Head":                 "is for programs",
	"TrimFeed":             "is for programs",
	"ID":                   "is the issuer of every token",
	"ApplicationID":        "is the audience of every token",
	"Close":                "is the host's",
	"InTx":                 "is for the host's own transactions",
}

func TestEveryMethodOfTheDirectoryIsServedOrSaysWhyNot(t *testing.T) {
	served := make(map[string]bool)
	for _, r := range routes {
		served[r.operation] = true
	}
	methods := reflect.TypeFor[*denizen.Directory]()
	for i := range methods.NumMethod() {
		name := methods.Method(i).Name
		_, excused := notServed[name]
		require.True(t, served[name] != excused, "%s: served %v, excused %v", name, served[name], excused)
	}
	for name := range notServed {
		_, there := methods.MethodByName(name)
		require.True(t, there, "%s is no method of the directory", name)
	}
	for _, r := range routes {
		_, there := methods.MethodByName(r.operation)
		_, proves := reflect.TypeFor[Prover]().MethodByName(r.operation)
		require.True(t, there || proves || r.operation == "", "%s %s: %s is no method of the directory", r.method, r.pattern, r.operation)
	}
}

func TestOnlyDocumentsAnswerWithoutACredential(t *testing.T) {
	var open []string
	for _, r := range routes {
		if r.open {
			open = append(open, r.pattern)
		}
	}
	require.Equal(t, []string{"/v1/.well-known/jwks.json", "/v1/openapi.json"}, open)
}
