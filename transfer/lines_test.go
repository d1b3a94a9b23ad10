package transfer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/transfer"
)

const (
	begin = `{"kind":"begin","format":1}` + "\n"
	end0  = `{"kind":"end","users":0}` + "\n"
)

// read returns all users of a file, and the errors of lines that hold none.
func read(t testing.TB, text string) (users []transfer.User, errs []error) {
	t.Helper()
	f, err := transfer.Open(strings.NewReader(text))
	if err != nil {
		return nil, []error{err}
	}
	for u, err := range f.Users() {
		if err != nil {
			errs = append(errs, err)
		} else {
			users = append(users, u)
		}
	}
	return users, errs
}

func TestOpen_RefusesWhatIsNoSuchFile(t *testing.T) {
	for text, rule := range map[string]string{
		"":                                 "is empty",
		"\n \n":                            "is empty",
		"hello":                            "does not begin with",
		end0:                               "does not begin with",
		`{"kind":"begin","format":2}`:      "is of format 2, and known is 1",
		`{"kind":"begin"}`:                 "is of format 0",
		`{"kind":"begin","format":1,`:      "does not begin with",
		`{"kind":"begin","fromat":1}`:      "does not begin with",
		strings.Repeat("x", 5<<20):         "does not begin with",
		begin:                              "was cut off",
		begin + `{"kind":"user","id":`:     "was cut off",
		begin + `{"kind":"end","users":1}`: "lacks some of its lines",
		begin + `{"kind":"end","users":0}` + "\n" + end0: "goes on after its last line",
		begin + `{"kind":"end"`:                          "has a last line that cannot be read",
	} {
		_, errs := read(t, text)
		require.NotEmpty(t, errs, text)
		var e *denizen.Error
		require.ErrorAs(t, errs[len(errs)-1], &e)
		require.ErrorIs(t, e, denizen.ErrInvalid)
		require.Equal(t, "file", e.Field)
		require.Contains(t, e.Reason, rule)
	}
	users, errs := read(t, begin+end0)
	require.Empty(t, users)
	require.Empty(t, errs)
}

func TestOpen_ALineThatCannotBeUsedIsPassedOver(t *testing.T) {
	for name, line := range map[string]string{
		"no JSON":         "hello",
		"unknown member":  `{"kind":"user","id":"alice-02","screenName":"A","verfied":true}`,
		"unknown kind":    `{"kind":"group","id":"alice-02"}`,
		"no kind":         `{"id":"alice-02"}`,
		"more":            `{"kind":"user","id":"alice-02"} {}`,
		"no UTF-8":        "{\"kind\":\"user\",\"id\":\"alice-02\",\"screenName\":\"\xff\"}",
		"no time":         `{"kind":"user","id":"alice-02","createdAt":"yesterday"}`,
		"second begin":    strings.TrimSpace(begin),
		"too long":        `{"kind":"user","id":"alice-02","screenName":"` + strings.Repeat("x", transfer.MaxLine) + `"}`,
		"another spelled": `{"kind":"\u0075ser","id":7}`,
	} {
		t.Run(name, func(t *testing.T) {
			text := begin + `{"kind":"user","id":"alice-01","screenName":"A"}` + "\n" + line + "\n\n" +
				`{"screenName":"B","id":"alice-03","kind":"user"}` + "\r\n" + `{"kind":"end","users":3}`
			users, errs := read(t, text)
			require.Len(t, users, 2)
			require.Len(t, errs, 1)
			require.ErrorIs(t, errs[0], denizen.ErrInvalid)
			dir, _ := newMemory(t)
			f, err := transfer.Open(strings.NewReader(text))
			require.NoError(t, err)
			report, results := bring(t, dir, f.Users(), transfer.Options{})
			require.Equal(t, 2, report.Created)
			require.Equal(t, transfer.Refused, results[1].Outcome)
			require.Equal(t, "line", report.Problems[0].Field)
		})
	}
}

func TestOpen_AFileThatWasCutOffIsImportedAsFarAsItGoes(t *testing.T) {
	dir, _ := newMemory(t)
	people(t, dir)
	text, _ := export(t, dir)
	other, _ := newMemory(t)
	f, err := transfer.Open(strings.NewReader(text[:len(text)/2]))
	require.NoError(t, err)
	_, err = transfer.Import(t.Context(), other, system, f.Users(), transfer.Options{Define: f.Definitions, TrustVerified: true})
	var e *denizen.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "file", e.Field)
	f, err = transfer.Open(strings.NewReader(text))
	require.NoError(t, err)
	report, _ := bring(t, other, f.Users(), transfer.Options{Define: f.Definitions, TrustVerified: true})
	require.Equal(t, 1_002, report.Created+report.Present)
	again, _ := export(t, other)
	require.Equal(t, ofPeople(t, text), ofPeople(t, again))
}

func TestOpen_AnErrorOfTheReaderEndsIt(t *testing.T) {
	broken := errors.New("the line is dead")
	f, err := transfer.Open(iotest.TimeoutReader(strings.NewReader(begin)))
	require.NoError(t, err)
	for _, err := range f.Users() {
		require.ErrorIs(t, err, iotest.ErrTimeout)
	}
	_, err = transfer.Open(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
}

// FuzzUsers requires that no file makes the reader panic, and that a user it has read stays the
// same when Export's encoding is read again.
func FuzzUsers(f *testing.F) {
	f.Add([]byte(`{"kind":"user","id":"alice-01","screenName":"A","blocked":true,"createdAt":"2019-05-04T03:02:01.123Z",` +
		`"locators":[{"locator":"email:a@example.org","status":"Verified","claim":true,"verifiedAt":"2020-01-01T00:00:00+02:00"}],` +
		`"attributes":[{"key":"bio","contentType":"text/html","value":"\u00e9\n"}]}` + "\n" + `{"kind":"end","users":1}`))
	f.Add([]byte(`{"kind":"damaged","id":"x"}` + "\n" + end0))
	f.Add([]byte("{\"kind\":\"user\"}\n\xff\n{}\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		file, err := transfer.Open(bytes.NewReader(append([]byte(begin), body...)))
		require.NoError(t, err)
		last := false
		for u, err := range file.Users() {
			require.False(t, last, "it goes on")
			if err != nil {
				var e *denizen.Error
				require.ErrorAs(t, err, &e)
				require.ErrorIs(t, err, denizen.ErrInvalid)
				last = e.Field == "file"
				continue
			}
			line, err := json.Marshal(lineOf(u))
			require.NoError(t, err)
			users, errs := read(t, begin+string(line)+"\n"+`{"kind":"end","users":1}`)
			require.Empty(t, errs)
			require.Equal(t, []transfer.User{u}, users)
		}
	})
}

// lineOf returns the line of a user as encoding/json writes it.
func lineOf(u transfer.User) map[string]any {
	line := map[string]any{"kind": "user", "id": u.ID, "screenName": u.ScreenName, "blocked": u.Blocked, "createdAt": u.CreatedAt, "updatedAt": u.UpdatedAt}
	var locators, attributes []any
	for _, l := range u.Locators {
		locators = append(locators, map[string]any{
			"locator": l.Locator, "status": l.Status, "claim": l.Claim, "addedAt": l.AddedAt, "verifiedAt": l.VerifiedAt,
		})
	}
	for _, a := range u.Attributes {
		attributes = append(attributes, map[string]any{
			"key": a.Key, "contentType": a.ContentType, "contentEncoding": a.ContentEncoding, "value": a.Value,
		})
	}
	line["locators"], line["attributes"] = locators, attributes
	return line
}
