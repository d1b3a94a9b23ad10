package adminui_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/memory"
)

// browser is a live page that somebody has open.
type browser struct {
	mu     sync.Mutex
	header http.Header
	status int
	got    bytes.Buffer
	cancel context.CancelFunc
	ended  chan struct{}
}

func (b *browser) Header() http.Header { return b.header }

func (b *browser) WriteHeader(status int) { b.status = status }

func (b *browser) Flush() {}

func (b *browser) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.status == 0 {
		b.status = http.StatusOK
	}
	return b.got.Write(p)
}

// looks opens a live page.
func (d *desk) looks(target string) *browser {
	ctx, cancel := context.WithCancel(context.Background())
	b := &browser{header: http.Header{}, cancel: cancel, ended: make(chan struct{})}
	r := httptest.NewRequest("GET", target, nil).WithContext(ctx)
	go func() {
		defer close(b.ended)
		d.console.ServeHTTP(b, r)
	}()
	return b
}

// told returns the parts that came since it was last asked, by their ids.
func (b *browser) told() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	parts := map[string]string{}
	for line := range strings.Lines(b.got.String()) {
		var p struct{ ID, HTML string }
		if data, ok := strings.CutPrefix(line, "data: "); ok && json.Unmarshal([]byte(data), &p) == nil {
			parts[p.ID] = p.HTML
		}
	}
	b.got.Reset()
	return parts
}

func (b *browser) isOpen() bool {
	select {
	case <-b.ended:
		return false
	default:
		return true
	}
}

// inBubble runs a test with a desk in virtual time. That no goroutine is left is a part of it.
func inBubble(t *testing.T, test func(t *testing.T, d *desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dir, err := denizen.New(t.Context(), memory.New(), denizen.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, dir.Close()) })
		d := newDesk(t, dir)
		for _, id := range []denizen.UserID{alice, "bob-0001"} {
			_, err = dir.CreateUser(t.Context(), sys, denizen.NewUser{ID: id, ScreenName: "Somebody", Locators: []denizen.NewLocator{denizen.Email(string(id[:3]) + ".secret@wonderland.example")}})
			require.NoError(t, err)
		}
		test(t, d)
	})
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestLive_AChangeIsToldWithinASecondAndNothingElse(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		overview, person, other, feed, keys := d.looks("/live/overview"), d.looks("/live/people/"+string(alice)),
			d.looks("/live/people/bob-0001"), d.looks("/live/feed"), d.looks("/live/feed?kind=key")
		all := []*browser{overview, person, other, feed, keys}
		wait(3 * time.Second)
		require.Contains(t, overview.told()["totals"], `class="figure">2<`)
		require.Contains(t, person.told()["who"], "Somebody")
		require.Contains(t, feed.told()["events"], "user.created")
		require.Contains(t, keys.told()["events"], "No events")
		other.told()
		for i := range 5 {
			name := fmt.Sprintf("Alice the %dth", i)
			_, err := d.dir.SetScreenName(t.Context(), sys.Named("bob"), alice, name)
			require.NoError(t, err)
			wait(999 * time.Millisecond)
			require.Contains(t, person.told()["who"], name)
			require.Contains(t, feed.told()["events"], "<b>bob</b>")
			require.Contains(t, overview.told()["events"], "user.renamed")
			require.Empty(t, other.told())
			require.Empty(t, keys.told())
		}
		_, err := d.dir.CreateAccessKey(t.Context(), sys)
		require.NoError(t, err)
		wait(999 * time.Millisecond)
		require.Contains(t, keys.told()["events"], "accesskey.created")
		require.Empty(t, person.told())

		// More than the hub keeps, at once.
		for i := range 250 {
			_, err := d.dir.SetScreenName(t.Context(), sys, "bob-0001", fmt.Sprintf("Bob %d", i))
			require.NoError(t, err)
		}
		_, err = d.dir.SetScreenName(t.Context(), sys, alice, "Alice")
		require.NoError(t, err)
		wait(999 * time.Millisecond)
		require.Contains(t, person.told()["who"], "Alice")
		require.Contains(t, other.told()["who"], "Bob 249")
		require.Equal(t, 50, strings.Count(feed.told()["events"], "<tr>")-1)
		// What a selection missed is told a little later.
		_, err = d.dir.CreateAccessKey(t.Context(), sys)
		require.NoError(t, err)
		for i := range 250 {
			_, err := d.dir.SetScreenName(t.Context(), sys, "bob-0001", fmt.Sprintf("Bob the %dth", i))
			require.NoError(t, err)
		}
		wait(6 * time.Second)
		require.Equal(t, 2, strings.Count(keys.told()["events"], "accesskey.created"))
		for _, b := range all {
			b.cancel()
			<-b.ended
			require.NotContains(t, b.got.String(), "secret@")
		}
	})
}

func TestLive_APresenceRunsOutWithoutAnEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		person := d.looks("/live/people/" + string(alice))
		defer person.cancel()
		chain := denizen.Online(12 * time.Second).Then(denizen.Away(20 * time.Second))
		require.NoError(t, d.dir.SetPresence(t.Context(), sys, alice, chain))
		wait(time.Second)
		parts := person.told()
		require.Contains(t, parts["who"], "Online")
		require.Contains(t, parts["presence"], time.Now().Add(11*time.Second).UTC().Format("15:04:05"))
		require.Contains(t, parts["presence"], "for 20 s")
		wait(11*time.Second + 500*time.Millisecond)
		require.Contains(t, person.told()["who"], "Away")
		wait(20*time.Second + time.Second)
		require.Contains(t, person.told()["who"], "not here")
	})
}

func TestLive_AStreamIsAskedForAgainEachMinute(t *testing.T) {
	for name, change := range map[string]func(d *desk){
		"refused":          func(d *desk) { d.err = errors.New("left the company") },
		"another operator": func(d *desk) { d.by = sys.Named("bob") },
		"nobody":           func(d *desk) { d.by = denizen.Principal{} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, d *desk) {
				b := d.looks("/live/overview")
				wait(2 * time.Minute)
				require.True(t, b.isOpen())
				d.mu.Lock()
				change(d)
				d.mu.Unlock()
				wait(time.Minute + time.Second)
				require.False(t, b.isOpen())
			})
		})
	}
}

// slow is a browser that takes its time over each part.
type slow struct {
	*browser
	each time.Duration
}

func (b slow) Write(p []byte) (int, error) {
	time.Sleep(b.each)
	return b.browser.Write(p)
}

// A page of a person has seven parts.
func TestLive_ABrowserThatReadsSlowlyIsAskedForInTime(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		b := &browser{header: http.Header{}, ended: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			defer close(b.ended)
			r := httptest.NewRequest("GET", "/live/people/"+string(alice), nil).WithContext(ctx)
			d.console.ServeHTTP(slow{b, 14 * time.Second}, r)
		}()
		wait(time.Second)
		d.mu.Lock()
		d.err = errors.New("left the company")
		d.mu.Unlock()
		wait(time.Minute + 14*time.Second)
		require.False(t, b.isOpen())
	})
}

func TestLive_AKeyThatIsDeletedEndsItsStreams(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		key, err := d.dir.CreateAccessKey(t.Context(), sys)
		require.NoError(t, err)
		by, err := d.dir.AuthenticateKey(t.Context(), key.Key, key.Secret)
		require.NoError(t, err)
		d.by = by.Named("ada")
		b := d.looks("/live/overview")
		wait(time.Minute)
		require.True(t, b.isOpen())
		require.NoError(t, d.dir.DeleteAccessKey(t.Context(), sys, key.Key))
		wait(time.Minute + time.Second)
		require.False(t, b.isOpen())
	})
}

func TestLive_AnOperatorHasABoundedNumberOfStreams(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		var open []*browser
		for range 16 {
			open = append(open, d.looks("/live/overview"))
		}
		wait(time.Second)
		seventeenth := d.looks("/live/overview")
		<-seventeenth.ended
		require.Equal(t, http.StatusTooManyRequests, seventeenth.status)
		d.mu.Lock()
		d.by = sys.Named("bob")
		d.mu.Unlock()
		another := d.looks("/live/overview")
		open[0].cancel()
		wait(time.Second)
		require.True(t, another.isOpen(), "another operator has its own")
		for _, b := range append(open, another) {
			b.cancel()
			<-b.ended
		}
		d.mu.Lock()
		d.by = sys.Named("ada")
		d.mu.Unlock()
		last := d.looks("/live/overview")
		wait(time.Second)
		require.True(t, last.isOpen())
	})
}

// However many pages are open, the store is asked as for one.
func TestLive_ManyOpenPagesCostTheStoreNoMoreThanOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tally{Store: memory.New()}
		dir, err := denizen.New(t.Context(), s, denizen.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, dir.Close()) })
		d := newDesk(t, dir)
		cost := func() int {
			wait(10 * time.Second)
			s.mu.Lock()
			s.read = 0
			s.mu.Unlock()
			wait(time.Minute)
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.read
		}
		d.looks("/live/overview")
		one := cost()
		for range 15 {
			d.looks("/live/overview")
		}
		require.InDelta(t, one, cost(), 10)
	})
}

func TestLive_NobodyLooksForLongerThanSomebodyDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tally{Store: memory.New()}
		dir, err := denizen.New(t.Context(), s, denizen.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, dir.Close()) })
		d := newDesk(t, dir)
		b := d.looks("/live/overview")
		wait(3 * time.Minute)
		b.cancel()
		wait(2 * time.Minute)
		s.mu.Lock()
		s.read = 0
		s.mu.Unlock()
		wait(30 * time.Second)
		require.Less(t, s.read, 10, "only what the directory does by itself")
		require.Contains(t, d.get("/"), `class="figure">0<`, "it looks again")
	})
}

func TestLive_CloseEndsTheStreams(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		b := d.looks("/live/overview")
		wait(time.Second)
		require.NoError(t, d.console.Close())
		<-b.ended
		require.Contains(t, d.get("/people"), "alice@01", "pages are shown still")
		late := d.looks("/live/overview")
		<-late.ended
	})
}

func TestLive_APageOfWhoLeavesSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		b := d.looks("/live/people/" + string(alice))
		wait(time.Second)
		require.NoError(t, d.dir.DeleteUser(t.Context(), sys, alice))
		wait(time.Second)
		<-b.ended
		require.Contains(t, b.got.String(), "event: gone")
		require.Equal(t, 404, d.send("GET", "/people/"+url.PathEscape(string(alice)), nil).Code)
	})
}
