package spec_test

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store/postgres"
)

// The child lives lives until it is killed. It prints a line for each act of one once that is
// acknowledged.
const killedChild = "DENIZEN_KILLED_CHILD" // the schema it writes to

// afterActs is what there is after each act of a life, as [now] spells it: who owns which addresses,
// has a token (*) and how many attributes (+), and what leads to whom. Each act is one commit.
var afterActs = [...]string{
	0: "a(a0)*+1 b(b0)+1 ",          // settled, in several commits
	1: "a(a0,a1)*+1 b(b0)+1 ",       // proved
	2: "a(a0,a2)*+1 b(b0)+1 ",       // replaced
	3: "a(a2)*+1 b(b0)+1 ",          // removed
	4: "a(a0)+1 b(b0)+1 ",           // undone
	5: "a(a0)+1 b(b0)+1 c(c0)+0 ",   // signed in
	6: "b(b0,a0)+2 c(c0)+0 a leads", // merged
	7: "c(c0)+0 ",                   // erased
}

// A life has the users of one name with a, b and c after it.
func lifeOf(life, user string) denizen.UserID { return denizen.UserID(life + "-" + user) }

// now spells what there is of a life.
func now(t *testing.T, d *denizen.Directory, life string) string {
	t.Helper()
	var b strings.Builder
	for _, name := range []string{"a", "b", "c"} {
		u, err := d.User(ctx, system, lifeOf(life, name))
		if errors.Is(err, denizen.ErrNotFound) {
			continue
		}
		require.NoError(t, err)
		var owned []string
		for _, l := range u.Locators {
			if l.Owned {
				address, _, _ := strings.Cut(strings.TrimPrefix(l.Canonical, life+"-"), "@")
				owned = append(owned, address)
			}
		}
		fmt.Fprintf(&b, "%s(%s)", name, strings.Join(owned, ","))
		tokens, err := d.Tokens(ctx, system, u.ID)
		require.NoError(t, err)
		if len(tokens) > 0 {
			b.WriteString("*")
		}
		p, err := d.Profile(ctx, system, u.ID)
		require.NoError(t, err)
		fmt.Fprintf(&b, "+%d ", len(p.Attributes))
	}
	to, err := d.ResolveUser(ctx, system, string(lifeOf(life, "a")))
	require.NoError(t, err)
	if to == lifeOf(life, "b") {
		b.WriteString("a leads")
	}
	return b.String()
}

func TestAnActOverPostgreSQLIsDoneOrNotThoughItsProcessIsKilled(t *testing.T) {
	if schema := os.Getenv(killedChild); schema != "" {
		liveUntilKilled(t, schema)
	}
	requirePostgres(t)
	rounds := long.Of(3, 20)
	if text := os.Getenv("DENIZEN_CRASH_ROUNDS"); text != "" {
		var err error
		rounds, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	schema := newSchema()
	p := newProcess(t, schema, denizen.Options{}, 0)
	for _, key := range []string{"a", "b"} {
		_, err := p.DefineAttribute(ctx, system, denizen.AttributeDef{Key: key})
		require.NoError(t, err)
	}
	var amid, done [len(afterActs)]int // lives that ended in an act, and those of them in which it was done
	for round := range rounds {
		said := killALiving(t, p, schema)
		for life, last := range said.acts {
			is, next := now(t, p.Directory, life), min(last+1, len(afterActs)-1)
			require.Contains(t, []string{afterActs[last], afterActs[next]}, is, "round %d: of a life after act %d", round, last)
			if is != afterActs[last] {
				done[next]++
			}
			if next > last {
				amid[next]++
			}
			if handle := said.handles[life]; handle != "" && last < 6 {
				_, _, err := door.Of(p.Directory).FinishSignIn(ctx, system, handle, code, newcomerOf(life))
				if strings.Contains(is, "c(c0)") {
					requireKind(t, err, denizen.ErrDenied, "proof")
				} else {
					require.NoError(t, err)
				}
			}
		}
		for u, err := range p.AllUsers(ctx, system) {
			require.NoError(t, err)
			_, err = p.EraseUser(ctx, system, u.ID)
			require.NoError(t, err)
		}
		invariant.Check(t, p.store)
		for _, r := range invariant.Of(t, p.store).Records {
			require.NotContains(t, string(r.Key)+string(r.Value), "life-", "round %d", round)
		}
	}
	t.Logf("lives that ended in act 0 to 7: %v; it was done all the same: %v", amid, done)
}

// living is what a child said before it was killed.
type living struct {
	acts    map[string]int    // the last act of each life that was acknowledged
	handles map[string]string // of the proof that act 5 of a life uses up
}

const writers = 4 // of a child

// killALiving runs a child and kills it after some acts, in the middle of others. It returns once the
// server has ended the child's sessions.
func killALiving(t *testing.T, p *process, schema string) living {
	t.Helper()
	said := living{map[string]int{}, map[string]string{}}
	child := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	child.Env = append(os.Environ(), killedChild+"="+schema)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	left := 1 + rand.IntN(writers*len(afterActs)) // acts until it is killed
	for lines := bufio.NewScanner(out); lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 3 && words[0] == "sent":
			said.handles[words[1]] = words[2]
		case len(words) == 3 && words[0] == "did":
			if left--; left == 0 {
				after := time.Duration(rand.Int64N(int64(20 * time.Millisecond)))
				time.AfterFunc(after, func() { _ = child.Process.Kill() })
			}
			act, err := strconv.Atoi(words[2])
			require.NoError(t, err)
			said.acts[words[1]] = act
		}
	}
	require.Error(t, child.Wait())
	require.NotEmpty(t, said.acts)
	require.Equal(t, -1, child.ProcessState.ExitCode(), "it ended by itself")
	require.Eventually(t, func() bool { // what it had sent may still be carried out
		left := -1
		err := p.pool.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", schema).Scan(&left)
		return err == nil && left == 0
	}, 30*time.Second, time.Millisecond)
	return said
}

func newcomerOf(life string) *denizen.NewUser {
	return &denizen.NewUser{ID: lifeOf(life, "c"), ScreenName: "Newcomer"}
}

// liveUntilKilled is the child.
func liveUntilKilled(t *testing.T, schema string) {
	config, err := pgxpool.ParseConfig(postgresDSN())
	require.NoError(t, err)
	config.ConnConfig.RuntimeParams["application_name"] = schema
	own, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(t, err)
	s, err := postgres.Open(ctx, own, postgres.Options{Schema: schema, LockTimeout: time.Minute})
	require.NoError(t, err)
	d, err := denizen.New(ctx, s, denizen.Options{})
	require.NoError(t, err)
	var undos sync.Map // the first of each user
	door.Of(d).OnChange(func(ch door.Change) { undos.LoadOrStore(ch.User, ch.Undo) })
	for w := range writers {
		go func() {
			for i := 0; ; i++ {
				life := fmt.Sprintf("life-%d-%d-%d", os.Getpid(), w, i)
				if err := live(d, life, &undos); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(2)
				}
			}
		}()
	}
	select {}
}

// live goes through all acts.
func live(d *denizen.Directory, life string, undos *sync.Map) error {
	in, a, b := door.Of(d), lifeOf(life, "a"), lifeOf(life, "b")
	address := func(name string) denizen.NewLocator {
		return denizen.Email(fmt.Sprintf("%s-%s@example.org", life, name))
	}
	for _, name := range []string{"a", "b"} {
		_, err := d.CreateUser(ctx, system, denizen.NewUser{
			ID: lifeOf(life, name), ScreenName: name, Locators: []denizen.NewLocator{proved(address(name + "0").Locator)},
			Attributes: []denizen.Attribute{{Key: name, Value: life}},
		})
		if err != nil {
			return err
		}
	}
	issued, err := d.IssueToken(ctx, system, a, denizen.TokenOptions{})
	if err != nil {
		return err
	}
	by, err := d.Authenticate(ctx, issued.Signed)
	if err != nil {
		return err
	}
	owned, err := d.Locators(ctx, system, a)
	if err != nil {
		return err
	}
	claim, err := d.AddLocator(ctx, by, a, address("a1"))
	if err != nil {
		return err
	}
	prove := func(replacement string) error {
		started, err := in.StartProof(ctx, by, door.ProofStart{
			LocatorID: string(claim.ID), Replaced: replacement, Secret: code,
		})
		if err == nil {
			_, err = in.FinishOwn(ctx, by, string(claim.ID), started.Handle, code)
		}
		return err
	}
	for act, do := range []func() error{
		func() error { return nil },
		func() error { return prove("") },
		func() error { return prove(address("a2").Locator) },
		func() error { return d.RemoveLocator(ctx, by, a, owned[0].ID) },
		func() error {
			secret, _ := undos.Load(string(a))
			return in.Undo(ctx, system, secret.(string))
		},
		func() error {
			started, err := in.StartProof(ctx, system, door.ProofStart{SignIn: address("c0").Locator, Secret: code})
			if err == nil {
				fmt.Println("sent", life, started.Handle)
				_, _, err = in.FinishSignIn(ctx, system, started.Handle, code, newcomerOf(life))
			}
			return err
		},
		func() error {
			_, err := d.MergeUsers(ctx, system, a, b, denizen.MergePolicy{Alias: denizen.Forever})
			return err
		},
		func() error {
			_, err := d.EraseUser(ctx, system, b)
			return err
		},
	} {
		if err := do(); err != nil {
			return fmt.Errorf("act %d: %w", act, err)
		}
		fmt.Println("did", life, act)
	}
	return nil
}
