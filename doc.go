// Package denizen is a user directory that a service embeds: who somebody is, how they are
// reached, what is known of them, whether they are here, and whether they may come in.
//
// A [Directory] lies in a store: [Open] keeps it in one file, [New] takes any other. There
// is no server and no configuration, and the zero [Options] are good. Errors are left out
// here:
//
//	ctx := context.Background()
//	dir, err := denizen.New(ctx, memory.New(), denizen.Options{})
//	defer dir.Close()
//
//	// The application creates a user, who owns the address from now on.
//	system := denizen.System()
//	alice, err := dir.CreateUser(ctx, system, denizen.NewUser{
//		ScreenName: "Alice",
//		Locators:   []denizen.NewLocator{denizen.Email("alice@example.org")},
//	})
//
//	// Somebody proved to be Alice: the application gives out a token.
//	token, err := dir.IssueToken(ctx, system, alice.ID, denizen.TokenOptions{TTL: time.Hour})
//
//	// A request comes with it: from here on the caller is Alice, and may do what Alice may.
//	by, err := dir.Authenticate(ctx, token.Signed)
//	_, err = dir.SetScreenName(ctx, by, alice.ID, "Alice in W.")
//	chain := denizen.Online(15 * time.Second).Then(denizen.Away(30 * time.Second)).Then(denizen.Offline())
//	err = dir.SetPresence(ctx, by, alice.ID, chain)
//
//	// Tokens, locators and presence end with the user, in one commit.
//	err = dir.DeleteUser(ctx, system, alice.ID)
//	_, err = dir.Authenticate(ctx, token.Signed)
//	fmt.Println(errors.Is(err, denizen.ErrRevoked)) // true
//
// It checks no passwords and sends no mail: how somebody proves to be Alice is the
// application's business, and IssueToken is called once that is done.
//
// # Who is calling
//
// A method that reads or changes something takes who is calling as a [Principal]: the
// application itself, which is [System] in this program and a proved access key from
// elsewhere, or a user, from [Directory.Authenticate] or [Directory.ActAs]. The zero
// Principal is nobody and may do nothing. What each may do is one table, printed in the
// README. A user may read and change itself; whether it sees anything of another is the
// application's to say, by Options.MaySee, without which nobody sees anybody. A refusal for
// want of privilege is ErrDenied and looks nothing up, so it does not tell whether the
// target exists.
//
// A Principal is for one request. It rests on its user and its access key, which are looked
// at again with all that is read or changed: where one is blocked or gone by then the answer
// is ErrRevoked. It does not rest on its token. On a connection that stays open,
// authenticate the token again from time to time.
//
// # Durability
//
// A method that changes something returns when the change is durable, as far as its store
// is: store/bolt has then synced its file, store/memory keeps nothing. It is one commit,
// made whole or not at all; RevokeTokensIssuedBy alone takes several, and ProveLocator two where
// a locator leaves one user for another. Where the store cannot
// tell whether a commit was made, because a disk or a connection failed at the wrong moment,
// the error is ErrOutcomeUnknown.
//
// Two things are kept in memory first, and [Directory.Close] stores them: heartbeats of
// presence, for Options.HeartbeatInterval, and when tokens and access keys were last used, for
// up to a minute. A crash loses them and nothing else: a state that was declared is durable.
//
// # Order
//
// What a call has been answered, every later call sees. Each change but a heartbeat commits
// together with its event, and [Directory.Events] tells the events in the order of their commits,
// without gaps. A consumer that keeps the Seq it has dealt with sees every event at least
// once, unless it comes back after Options.FeedMaxAge or FeedMaxEvents: then it gets ErrMissed.
//
// A store can go back: a backup is restored, a failover loses the last commits. A directory that
// finds it so forgets all it remembered, and a consumer from beyond the head gets ErrMissed.
// Tokens that were revoked after the state it went back to live again.
//
// A locator is owned by one user at most, and so is an id, however many callers race for
// it: that is a condition of the commit. Versions, where a method takes one, are too.
//
// # Tokens
//
// A token is a JWT signed with Ed25519. Here its signature is not what lets anybody in:
// the directory knows every text it issued and accepts no other, so revoking a token,
// blocking its user or deleting the user ends it for every Authenticate that begins
// afterwards, in every process that has the store; processes other than the one that ended
// it may be as late as Options.MaxRevocationDelay says, which is not at all unless it is set. A
// directory that cannot look it up lets nobody in. Programs elsewhere may check the signature with the keys of
// [Directory.PublicKeys], by a [Verifier] or a JWT library that knows EdDSA; to them a
// revoked token is good until it expires.
//
// # Time
//
// What a presence is, and whether a token lives, follows from what is stored and the time
// it is read: no timer has to fire. While a directory is open its clock does not go back,
// whatever the machine's does; after a restart the machine's is believed.
//
// Processes that share a store go each by its own clock. What is stored are instants by the
// clock of whoever wrote: when a state was set, when a token ends, when a signed request may
// be forgotten. They are compared with the clock of whoever reads. So between clocks that
// differ a presence or a token lasts longer or shorter by the difference, and never by more; and
// what was revoked, or has left the store since it expired, no clock revives. Keep the
// clocks together by NTP, well within SignedWindow.
//
// # What lies in the store
//
// With Options.RootKey the secrets of access keys, the seeds of the signing keys and the
// key of the cursors are sealed with XChaCha20-Poly1305. Without it they lie in the clear,
// and whoever reads the store can sign requests, and tokens that pass offline. Signed texts
// of tokens are never stored, only their SHA-256. All else is always in the clear: ids,
// screen names, locators, attributes, presence, labels and times of tokens, and the events.
// Who can write to the store can do anything.
//
// # Telephone numbers
//
// Whether a number can be one is judged by the numbering plans of all countries, whose
// tables cost a program some milliseconds and megabytes at its start. One that needs no
// telephone numbers is built with -tags denizen_notele: then each new one is ErrInvalid, and
// those that are stored already keep their owners and are found.
//
// # Limits
//
// The constants of this package bound what one user or one call can hold, and are enforced
// by ErrLimited or ErrInvalid. What a user with a token of its own changes takes from a bucket
// (Options.UserEventBurst, Options.UserEventInterval): past it the error is ErrLimited with RetryAfter.
// Heartbeats, ending tokens and clearing presence are free. A list has a limit and a cursor, and nothing is cut short
// silently. A store in one file belongs to one Directory of one process.
//
// # Damage
//
// A record that cannot be read stops nobody else. Lists and walks go past it and name it by an
// ErrCorrupt beside the good ones; its user can be deleted, and its tokens revoked, all of them then.
// RotateSigningKey replaces signing keys that cannot be read, DeleteAccessKey the access keys, and
// DefineAttribute a definition. A file whose damage Open meets is refused, never founded anew.
// Work in the background goes on with the rest. [Directory.Health] and Options.Logger tell what
// was met.
//
// # Errors
//
// Every error is an [*Error] of one of the kinds, such as ErrTaken, to be told by errors.Is.
// It names the field and the rule. Its text holds no secret, no locator and no attribute,
// and may be shown to whoever made the call; the cause below it, for errors.Is and for the
// application's log, is in Unwrap and not in the text. A refusal changes nothing.
//
// # Compatibility
//
// Until v1 a minor version may change exported names; the changelog says how. What is
// stored is kept more strictly: a file made by a released version opens in every later one,
// and one that is newer than the program knows is refused. Texts of errors are no promise;
// kinds and Field are.
package denizen
