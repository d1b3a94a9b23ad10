package denizen_test

import (
	"testing"
	"testing/synctest"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

func TestConsumers_ANewOneCanBeginAtTheHead(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		fillFeed(t, d, 5)
		require.NoError(t, d.ResetConsumer(t.Context(), sys, "indexer", headOf(t, d)))
		newUser(t, d, "later-user")
		var c collector
		stop := notifying(d, "indexer", c.handle)
		synctest.Wait()
		require.Len(t, c.events(), 2)
		require.Equal(t, denizen.EventConsumerReset, c.events()[0].Kind)
		require.Equal(t, []string{"indexer"}, c.events()[0].Subjects)
		require.Equal(t, denizen.UserID("later-user"), c.events()[1].User)
		// And back to the beginning, while it runs.
		require.NoError(t, d.ResetConsumer(t.Context(), sys, "indexer", ""))
		synctest.Wait()
		require.Equal(t, eventsAfter(t, d, 0), c.events()[2:])
		requireStopped(t, stop())
	})
}

func TestConsumers_ACursorThatIsNoneIsRefused(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		requireRefused(t, d.ResetConsumer(t.Context(), sys, "indexer", "17"), "ResetConsumer", denizen.ErrInvalid, "after")
		requireRefused(t, d.ResetConsumer(t.Context(), sys, "indexer", headOf(t, newMemory(t, denizen.Options{}))), "ResetConsumer", denizen.ErrMissed, "after")
		list, err := d.Consumers(t.Context(), sys)
		require.NoError(t, err)
		require.Empty(t, list)
	})
}

func TestConsumers_AreListedByNameAndDeleted(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		head := headOf(t, d)
		for _, name := range []string{"mailer", "indexer"} {
			require.NoError(t, d.ResetConsumer(t.Context(), sys, name, head))
		}
		list, err := d.Consumers(t.Context(), sys)
		require.NoError(t, err)
		require.Equal(t, []denizen.Consumer{{Name: "indexer", Cursor: head}, {Name: "mailer", Cursor: head}}, list)
		require.NoError(t, d.DeleteConsumer(t.Context(), sys, "indexer"))
		requireRefused(t, d.DeleteConsumer(t.Context(), sys, "indexer"), "DeleteConsumer", denizen.ErrNotFound, "consumer")
		require.Equal(t, "mailer", consumer(t, d).Name)
		events := eventsAfter(t, d, 0)
		require.Equal(t, denizen.EventConsumerDeleted, events[len(events)-1].Kind)
	})
}

func TestConsumers_ADamagedOneIsListedAndRepaired(t *testing.T) {
	s := memory.New()
	d := newOver(t, s, denizen.Options{})
	require.NoError(t, d.ResetConsumer(t.Context(), sys, "indexer", ""))
	for _, repair := range []func() error{
		func() error { return d.ResetConsumer(t.Context(), sys, "indexer", "") },
		func() error { return d.DeleteConsumer(t.Context(), sys, "indexer") },
	} {
		_, err := s.Commit(t.Context(), store.Batch{Put: []store.Record{{Key: record.ConsumerKey("indexer"), Value: []byte(`{"kind":"other"}`)}}})
		require.NoError(t, err)
		require.Equal(t, denizen.Consumer{Name: "indexer", Damaged: true}, consumer(t, d))
		requireRefused(t, d.Notify(t.Context(), sys, "indexer", nil), "Notify", denizen.ErrCorrupt, "")
		require.NoError(t, repair())
	}
	list, err := d.Consumers(t.Context(), sys)
	require.NoError(t, err)
	require.Empty(t, list)
}
