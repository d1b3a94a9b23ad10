// Package denizen is a user directory that a Go service embeds. It keeps who somebody is, how they
// are reached, what is known of them and whether they are here, and it decides who may come in.
//
// [Open] keeps a [Directory] in one file, [New] in any other store. There is no server and no
// configuration: the zero [Options] are good. This program leaves the errors out:
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
//	// A request brings the token: from here on the caller is Alice, and may do what Alice may.
//	by, err := dir.Authenticate(ctx, token.Signed)
//	_, err = dir.SetScreenName(ctx, by, alice.ID, "Alice in W.")
//	chain := denizen.Online(15 * time.Second).Then(denizen.Offline())
//	err = dir.SetPresence(ctx, by, alice.ID, chain)
//
//	// Tokens, locators and presence end with the user, in one commit.
//	err = dir.DeleteUser(ctx, system, alice.ID)
//	_, err = dir.Authenticate(ctx, token.Signed)
//	fmt.Println(errors.Is(err, denizen.ErrRevoked)) // true
//
// The package checks no passwords and sends no mail. How somebody proves to be Alice is up to the
// application, which then calls [Directory.IssueToken].
//
// Every method has an example below. Package httpadapter serves a directory over HTTP, webhook
// posts its events to other services, denizentest makes one for unit tests, and store/memory,
// store/bolt and store/postgres are the stores.
//
// # Who is calling
//
// A method that reads or changes something takes a [Principal], which is who is calling:
//
//   - the application itself: [System] in this program, and elsewhere whoever proves to have an
//     access key, by [Directory.AuthenticateKey] or [Directory.AuthenticateSigned];
//   - a user, from [Directory.Authenticate] for a token, or from [Directory.ActAs] for a user
//     on whose behalf the application acts;
//   - nobody: the zero Principal.
//
// They are called .system, by the user's id, and .anonymous. Which of the operators acts as .system
// can be told by a name: see [Principal.Named].
//
// A Principal is for one request. Each method re-checks its user and its access key, and returns
// [ErrRevoked] once one of them is blocked or gone. It does not re-check its token. A connection
// that stays open calls [Directory.Check] from time to time.
//
// # Who may call what
//
// One table decides it, and the README prints it:
//
//   - .system may do everything to every user. It is no user itself: it has no token, no
//     profile and no presence.
//   - A user may read and change itself. It never creates, blocks or deletes users, issues
//     tokens or verifies its own locators.
//   - What a user sees of others, its peers, is up to Options.MaySee. Without that nobody sees
//     anybody.
//   - .anonymous may do nothing.
//
// The last sentence of a method that is for the application alone says that only .system may. A
// refusal for want of privilege is [ErrDenied]. It looks nothing up, so it does not tell whether
// the target exists.
//
// # Durability
//
// A method that changes something returns once the change is durable, as far as its store is:
// store/bolt has synced its file by then, store/memory keeps nothing. The change is one commit,
// made whole or not at all. The exceptions say so: [Directory.IssueToken], [Directory.ProveLocator]
// and [Directory.RevokeTokensIssuedBy].
//
// If a disk or a connection fails at the wrong moment, the store cannot tell whether a commit was
// made. Then the error is [ErrOutcomeUnknown].
//
// Two things are kept in memory first, and [Directory.Close] stores them: heartbeats of presence,
// for up to Options.HeartbeatInterval, and when tokens and access keys were last used and users
// last active, for up to a minute. A crash loses these and nothing else. A presence that is not a
// heartbeat is durable like any other change.
//
// # Order
//
// What one call returned, every later call sees. Each change but a heartbeat commits together with
// its [Event], and [Directory.Events] yields the events in the order of their commits, without
// gaps. A consumer that remembers the last [Cursor] it handled sees every event at least once;
// [Directory.Notify] remembers it. One that comes back later than Options.FeedMaxAge and
// FeedMaxEvents allow gets [ErrMissed].
//
// An id or a locator is owned by one user at most, however many callers race for it: that is a
// condition of the commit. So is a version that a method takes.
//
// # Restored stores
//
// A store can go back: somebody restores a backup, or a failover loses the last commits. A
// directory that notices forgets all it has cached, and a consumer whose last event was lost gets
// [ErrMissed]. Tokens that were revoked after the restored state are valid again.
//
// # Tokens
//
// A token is a JWT signed with Ed25519. This directory does not judge it by its signature: it knows
// every signed text that it issued, and accepts no other. So revoking a token, or blocking or
// deleting its user, ends it for every [Directory.Authenticate] that begins afterwards. Other
// processes over the same store may be late by Options.MaxRevocationDelay, which is zero unless
// set. A directory that cannot look a token up lets nobody in.
//
// Programs elsewhere check the signature with the keys of [Directory.PublicKeys], by a [Verifier]
// or any JWT library that knows EdDSA. For them a revoked token is valid until it expires.
//
// # Time
//
// What a presence is and whether a token is valid follow from what is stored and the time of
// reading. No timer has to fire. While a directory is open its clock never goes back, whatever the
// machine's does. After a restart it believes the machine's.
//
// Processes that share a store each use their own clock. The instants they store, such as when a
// token expires, are compared with the clock of the reader. Between clocks that differ, a token or
// a presence lasts longer or shorter by the difference. What was revoked, or was removed after it
// expired, no clock revives. Keep the clocks together by NTP, well within [SignedWindow].
//
// # What is stored
//
// With Options.RootKeys three kinds of secrets are sealed with XChaCha20-Poly1305: those of access
// keys, the seeds of signing keys, and the key of cursors. Without it they are stored in the clear,
// and whoever reads the store can sign requests, and tokens that pass offline.
//
// Of the signed text of a token only the SHA-256 is stored. Everything else is in the clear: ids,
// screen names, locators, attributes, presence, labels and times of tokens, and events. Whoever can
// write to the store can do anything.
//
// # Telephone numbers
//
// New numbers are checked against the numbering plans of all countries. Their tables cost a program
// some milliseconds and megabytes when it starts. A program without telephone numbers is built with
// -tags denizen_notele. Then a new number is [ErrInvalid]; those already stored keep their owners
// and are found.
//
// # Limits
//
// The constants of this package bound what one user or one call can hold. The errors are
// [ErrLimited] and [ErrInvalid]. A list has a limit and a cursor, and is never cut short silently.
//
// What a user with a token of its own changes is bounded in rate, by Options.UserEventBurst and
// UserEventInterval. Beyond that the error is [ErrLimited] with RetryAfter. Heartbeats, revoking
// tokens and clearing presence are free.
//
// A store in one file belongs to one Directory of one process.
//
// # Damage
//
// A record that cannot be read stops nobody else. Lists skip it, and name it by an [ErrCorrupt]
// beside the good ones. Background work goes on with the rest. [Directory.Health] and
// Options.Logger report it.
//
// Damage can be removed. [Directory.DeleteUser] deletes the user, and revoking one of its
// tokens revokes all. [Directory.RotateSigningKey] replaces damaged signing keys,
// [Directory.DeleteAccessKey] access keys, and [Directory.DefineAttribute] a definition.
//
// [Open] refuses a file whose damage it meets, and never starts it anew.
//
// # Errors
//
// Every error is an [*Error] of one of the kinds, such as [ErrTaken]: use [errors.Is]. It names the
// field and the rule. Its text holds no secret, no locator and no attribute, so it may be shown to
// the caller. The cause is for the application's own log: Unwrap has it, the text does not. A
// refusal changes nothing.
//
// # Compatibility
//
// Until v1 a minor version may change exported names; the changelog says how. What is stored is
// kept more strictly. A file made by a released version opens in every later one, and a file newer
// than the program is refused. The texts of errors may change; kinds and Field do not.
package denizen
