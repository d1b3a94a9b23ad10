// Package signin proves that people receive what is sent to an address: it makes one-time codes and
// links, has the host send them, and signs in whoever gives them back.
//
//	people, err := signin.New(dir, signin.Options{
//		Deliver:  sendMail,
//		Newcomer: func() denizen.NewUser { return denizen.NewUser{ScreenName: "Newcomer"} },
//	})
//	mux.Handle("/sign-in/", http.StripPrefix("/sign-in",
//		people.Handler(denizen.System(), signin.HandlerOptions{})))
//	mux.Handle("/v1/", httpadapter.New(dir, httpadapter.Options{Prove: people}))
//
// # What holds
//
// A start makes a handle, and the code is good only with it. So a stranger who knows an address
// can neither spend, use up nor replace the code of somebody else. A code is good once, for ten
// minutes and five tries, however many guess at a time. The directory stores only a digest of it,
// under a key of the directory, so codes survive a restart and work on every process that shares
// the store.
//
// Starting does the same work and answers the same for an address that somebody owns and for any
// other. Who owns it is looked up off the caller's path. A wrong code does the same work, too.
//
// For one address there are four starts an hour for a client, and twelve in all. A device that
// signed in by the address before has four of its own, so nobody keeps its people out. One client
// may start 30 times at once, and then once in 20 seconds, for whatever addresses. At most 1,000
// proofs live that one process started for addresses that nobody owns: one more replaces the
// oldest, and is not sent. Its answer is the same.
//
// Signing in never looks at claims: nobody gets in by an address that another user only says is its
// own. See [denizen.Directory.ProveLocator] for whose user it is.
//
// # What cannot be prevented
//
// Somebody may be talked into telling a code to another person, or into typing it into another
// site, which relays it. A link that works only in the browser that asked for it is harder to relay
// than a code. Let the message say what it is for: Delivery.Purpose.
package signin
