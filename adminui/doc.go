// Package adminui is a console for the people who run a service: who is here, who somebody is, what
// happened, and how the directory fares. It is one [http.Handler] for the host's own mux.
//
//	console, err := adminui.New(dir, adminui.Options{
//		Authorize: func(r *http.Request) (denizen.Principal, error) {
//			operator, err := operatorOf(r) // by the service's own sign-in
//			return denizen.System().Named(operator), err
//		},
//		May: func(operator string, do adminui.Action) bool { return operator == "ada" },
//	})
//	mux.Handle("/admin/", http.StripPrefix("/admin", console))
//
// Its pages are HTML that the server renders, with a style and a script of their own. Reading works
// without JavaScript; with it the pages are live. They load nothing from elsewhere.
//
// # Who may do what
//
// Options.Authorize is asked for every request, and each minute of a stream. It names the operator:
// [denizen.Principal.Named]. The name stands in the feed beside all that the operator does. Without
// Options.May a console only shows. Each change is confirmed on a page of its own first.
//
// Addresses and numbers are masked, in the source of the page too. To see one is an [Action], and an
// event of the feed before it is shown. A search is a POST, so that no locator is in a URL or in a
// log of URLs. Ids are in URLs: choose ids that are no addresses.
//
// # What it costs
//
// A page reads no more than it shows, whatever the number of users. While somebody looks, one
// goroutine reads figures and the end of the feed twice a second, and another counts users and who
// is here, for at most a twentieth of the time. All open pages share what these read. They end a
// minute after the last page was asked for, and with [Console.Close].
//
// An operator has [MaxOperatorStreams] live pages at most, and all together have [MaxStreams]. A tab
// that is not seen has none.
package adminui
