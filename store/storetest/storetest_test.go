package storetest

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

func TestAStoreWithoutBugsPasses(t *testing.T) {
	Run(t, frailHarness(""))
}

func TestAStoreThatKeepsNothingPasses(t *testing.T) {
	Run(t, Harness{New: frailHarness("").New})
}

func TestTheFaultyWrapperWithoutFaultsPasses(t *testing.T) {
	Run(t, frailHarness("").Wrap(func(_ testing.TB, s store.Store) store.Store {
		return Faulty(s, func(Call) Fault { return None })
	}))
}

func TestTheWatchfulWrapperPasses(t *testing.T) {
	Run(t, frailHarness("").Wrap(func(t testing.TB, s store.Store) store.Store {
		return Watchful(t, s, func(store.Key) bool { return true })
	}))
}

// bugs are those that frail can be built with, each with the clause it breaks.
var bugs = map[string]int{
	"a refused batch drops all the same":            1,
	"a refused batch takes a seq":                   1,
	"a batch is applied in two halves":              1,
	"a put of more than two is cut short":           1,
	"drops come before conditions":                  2,
	"a condition on absence always holds":           2,
	"any older version will do":                     2,
	"under does not count the key itself":           2,
	"conditions are judged one commit late":         2,
	"only the first failed condition is named":      2,
	"the last failed condition is not named":        2,
	"any batch goes":                                3,
	"an invalid batch takes a seq":                  3,
	"puts come before drops":                        3,
	"a batch without event takes no seq":            4,
	"a version does not grow":                       4,
	"a version is the caller's":                     4,
	"versions count per key":                        4,
	"get reads key by key":                          5,
	"get returns what was one commit ago":           5,
	"get returns records in key order":              5,
	"get returns a key once":                        5,
	"get leaves out what is absent":                 5,
	"any limit goes":                                6,
	"list reads key by key":                         6,
	"list includes after":                           6,
	"list sorts without case":                       6,
	"list returns one too many":                     6,
	"list returns values always":                    6,
	"an event is lost now and then":                 7,
	"the event of a batch without puts is lost":     7,
	"the event shows later":                         7,
	"changes overflow":                              7,
	"head is that of the last event":                7,
	"head runs ahead":                               7,
	"the first of a page is skipped":                7,
	"a restart forgets the trim":                    8,
	"a trim reaches its own event":                  8,
	"a later trim brings events back":               8,
	"a trim removes and does not say so":            8,
	"a trim is ignored":                             8,
	"missed does not tell the head":                 8,
	"missed is off by one":                          8,
	"a refused batch wakes":                         9,
	"nobody is woken":                               9,
	"a batch without event wakes nobody":            9,
	"wait never waits":                              9,
	"wait overlooks its context":                    9,
	"close wakes nobody":                            9,
	"a restart loses the last commit":               10,
	"a restart begins the sequence anew":            10,
	"an ended context is ignored":                   11,
	"a withdrawn batch is applied":                  11,
	"get returns its own memory":                    12,
	"list returns its own memory":                   12,
	"list returns one array":                        12,
	"the caller's memory is kept":                   12,
	"the caller's batch is sorted":                  12,
	"the caller's event is kept":                    12,
	"changes returns its own memory":                12,
	"get takes any key":                             13,
	"keys are cut at a zero byte":                   13,
	"keys know no case":                             13,
	"keys are UTF-8":                                13,
	"values become floats":                          14,
	"a closed store works":                          15,
	"closing twice is an error":                     15,
	"close loses what it acknowledged last":         15,
	"load looks at records only":                    16,
	"load takes any store":                          16,
	"a failed load leaves records":                  16,
	"load takes any value":                          16,
	"load takes any version":                        16,
	"load makes versions anew":                      16,
	"a load whose changes break off succeeds":       16,
	"load keeps the changes in the order they came": 16,
	"load begins the feed at 1":                     16,
	"load forgets the head":                         16,
	"anybody may own":                               17,
	"a release takes the next owner's place":        17,
	"a release does nothing":                        17,
	"what is damaged is not marked":                 18,
	"what is damaged is gone":                       18,
	"a damaged event is left out":                   18,
	"a damaged version is a conflict":               18,
	"a condition on damage always holds":            18,
	"nothing is ever damaged for a condition":       18,
	"beyond the head there is nothing":              19,
	"the end is missed":                             19,
	"a wait beyond the head waits":                  19,
	"what is closed is well":                        20,
}

func TestEveryPlantedBugIsCaughtByItsClause(t *testing.T) {
	was := patience
	patience = 300 * time.Millisecond
	t.Cleanup(func() { patience = was })
	for bug, number := range bugs {
		t.Run(bug, func(t *testing.T) {
			for _, c := range contract() {
				if c.number == number && try(t, func(t testing.TB) { c.hold(t, frailHarness(bug)) }) != "" {
					return
				}
			}
			t.Errorf("clause %d does not find it", number)
		})
	}
}

func TestEveryBugIsInTheTable(t *testing.T) {
	source, err := os.ReadFile("frail_test.go")
	require.NoError(t, err)
	planted := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?:\.is\(|case )"([^"]+)"`).FindAllSubmatch(source, -1) {
		planted[string(m[1])] = true
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(bugs)), slices.Collect(maps.Keys(planted)))
}

func TestTheModelFindsBugsAndShrinksTheirScripts(t *testing.T) {
	for _, bug := range []string{
		"the last failed condition is not named",
		"a later trim brings events back",
		"a restart forgets the trim",
	} {
		t.Run(bug, func(t *testing.T) {
			failure := try(t, func(t testing.TB) { scriptsEndAsInTheModel(t, frailHarness(bug)) })
			require.Contains(t, failure, "seed 0x")
			_, script, found := strings.Cut(failure, "the shortest script that fails:\n")
			require.True(t, found)
			require.LessOrEqual(t, strings.Count(script, "\n"), 10, "of 20:\n%s", script)
		})
	}
}

func TestAStoreWithoutSoleIsNotMadeSole(t *testing.T) {
	plain := struct{ store.Store }{newFrail("")}
	for _, wrap := range []func(store.Store) store.Store{
		func(s store.Store) store.Store { return Faulty(s, func(Call) Fault { return None }) },
		func(s store.Store) store.Store { return Watchful(t, s, nil) },
	} {
		require.NotImplements(t, (*store.Sole)(nil), wrap(plain))
		require.NotImplements(t, (*store.Checker)(nil), wrap(plain))
		require.Implements(t, (*store.Sole)(nil), wrap(newFrail("")))
		require.Implements(t, (*store.Checker)(nil), wrap(newFrail("")))
		checker := struct {
			store.Store
			store.Checker
		}{plain, newFrail("")}
		require.NotImplements(t, (*store.Sole)(nil), wrap(checker))
		require.Implements(t, (*store.Checker)(nil), wrap(checker))
	}
}
