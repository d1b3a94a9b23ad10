package signin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
)

// Options are the settings of [New]. Only Deliver is needed.
type Options struct {
	// Deliver sends a message, such as a mail. Its context ends after ten seconds, and when the
	// Service is closed; it must return then. It is called by several goroutines at once. An error
	// is tried again after one and after five seconds.
	Deliver func(ctx context.Context, d Delivery) error
	// Undelivered is told of a message that could not be delivered, with the last error. The start
	// does not count then. Nil: it is logged with slog.Default, without the address.
	Undelivered func(d Delivery, err error)
	// Newcomer returns the user to be created for somebody who proves an address that nobody owns.
	// Its locators come after the proved one. Nil: nobody is created, and nothing is sent to such
	// addresses.
	Newcomer func() denizen.NewUser
	// Link is the URL of the page that sign-in links lead to, such as
	// "https://app.example.org/sign-in/link": see [Service.Handler]. It has neither query nor
	// fragment. Empty: there are no links.
	Link string
	// Undo is the URL of the page that links lead to which undo a change of what a user is reached
	// by, such as "https://app.example.org/sign-in/undo". It is as Link. Empty: users are told of
	// changes, and cannot undo them.
	Undo string
	// Client returns whom a request to the handler counts for. Nil: the IPv4 address that it comes
	// from, or the /64 of the IPv6 address. Behind a proxy that is the proxy: let Client return
	// what a header of that proxy says.
	Client func(*http.Request) string
}

// Purpose is what a code or a link is for.
type Purpose string

// The purposes.
const (
	SignIn Purpose = "sign-in" // to sign in, as whoever owns the address or as a new user
	Verify Purpose = "verify"  // to prove an address that a signed-in user says is its own
	Change Purpose = "change"  // to prove an address that replaces one of a signed-in user
	Notice Purpose = "notice"  // to tell what was proved before that its user changed something
)

// Delivery is a message to be sent.
type Delivery struct {
	Purpose  Purpose
	Type     denizen.LocatorType
	Address  string    // without its type; an internationalised domain is in A-labels
	Code     string    // eight digits; empty if Link is set
	Link     string    // with its secret in the fragment
	Undo     string    // with a Notice: a link that undoes the change; may be empty
	Removed  bool      // with a Notice: the change removed this address from the user
	Language string    // as the start asked for it (BCP 47); may be empty
	Expires  time.Time // when the code or the link ends
}

// String returns the purpose alone, so that no log shows the code or the address.
func (d Delivery) String() string { return "delivery to " + string(d.Purpose) + " (not shown)" }

// GoString returns what String does.
func (d Delivery) GoString() string { return d.String() }

// LogValue returns the purpose and the type of the address.
func (d Delivery) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("purpose", string(d.Purpose)), slog.String("type", string(d.Type)),
	)
}

// Service starts and finishes proofs for a directory. Its methods may be called by many goroutines
// at once.
type Service struct {
	through door.Directory
	o       Options
	limits  *limits
	mail    *outbox
}

// New returns a Service for a directory, which has one at a time: the last one made is who tells of
// changes. Close it before the directory. A setting that breaks its rule is [denizen.ErrInvalid],
// and so is a directory in a transaction.
func New(dir *denizen.Directory, o Options) (*Service, error) {
	through := door.Of(dir)
	switch {
	case o.Deliver == nil:
		return nil, invalid("New", "Deliver", "is missing")
	case through.Serial():
		return nil, invalid("New", "directory", "is in a transaction")
	}
	for name, link := range map[string]string{"Link": o.Link, "Undo": o.Undo} {
		u, err := url.Parse(link)
		if link != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" ||
			strings.ContainsAny(link, "?#")) {
			return nil, invalid("New", name, "must be a URL without a query and a fragment")
		}
	}
	if o.Undelivered == nil {
		o.Undelivered = func(d Delivery, err error) {
			slog.Warn("denizen: a message could not be delivered", "delivery", d, "err", err)
		}
	}
	if o.Client == nil {
		o.Client = remoteClient
	}
	s := &Service{
		through: through, o: o, limits: newLimits(),
		mail: newOutbox(through, o.Deliver, o.Undelivered, o.Newcomer != nil),
	}
	through.OnChange(s.tell)
	return s, nil
}

// tell tells everybody who is reached by what a user had proved before it changed that.
func (s *Service) tell(ch door.Change) {
	for _, told := range ch.Told {
		kind, address, _ := strings.Cut(told.Locator, ":")
		d := Delivery{
			Purpose: Notice, Type: denizen.LocatorType(kind), Address: address,
			Removed: told.Removed, Expires: time.UnixMilli(ch.Until),
		}
		if told.MayUndo && ch.Undo != "" && s.o.Undo != "" {
			d.Undo = s.o.Undo + "#" + ch.Undo
		}
		s.mail.tell(&message{Delivery: d})
	}
}

func invalid(op, field, reason string) error {
	return &denizen.Error{Op: op, Kind: denizen.ErrInvalid, Field: field, Reason: reason}
}

// Close takes no more starts, lets what waits be delivered for five seconds, and ends the
// goroutines. What is not delivered by then is lost. If Options.Deliver, or a call of Start, does
// not return within six more seconds it is [denizen.ErrUnavailable]: a goroutine is left
// until then.
func (s *Service) Close() error { return s.mail.close() }

// Request asks for a code or a link to sign in with.
type Request struct {
	Locator string // serialized, such as "email:alice@example.org"
	// Client is whom the start counts for, such as an IP address. All without one are one.
	Client   string
	Device   string // SignedIn.Device of an earlier sign-in; may be empty
	Language string // passed on to Deliver
	Link     bool   // ask for a link in place of a code
}

// Start has a code or a link sent, and returns the handle that it is good with. That is 130 random
// bits: give it to whoever asked, and to nobody else. It returns the same for every address,
// whatever becomes of the message, once the proof is durable.
//
// A locator that is neither an e-mail address nor a telephone number is [denizen.ErrInvalid]. Too
// many starts are [denizen.ErrLimited] with RetryAfter, judged before anything is looked up. As
// must be .system.
func (s *Service) Start(
	ctx context.Context, as denizen.Principal, r Request,
) (proof string, err error) {
	if r.Link && s.o.Link == "" {
		return "", invalid("Start", "link", "there are no links here")
	}
	if _, _, err := denizen.ParseLocator(r.Locator); err != nil {
		return "", err
	}
	if err := s.limits.starts.take("Start", r.Client); err != nil {
		return "", err
	}
	secret := newCode()
	if r.Link {
		secret = rand.Text()
	}
	return s.start(ctx, as, r.Language, r.Link, door.ProofStart{
		SignIn: r.Locator, Secret: secret, Client: r.Client, Device: r.Device,
	})
}

func (s *Service) start(
	ctx context.Context, as denizen.Principal, language string, link bool, p door.ProofStart,
) (proof string, err error) {
	if err := s.mail.reserve(ctx); err != nil {
		return "", err
	}
	p.Device = s.device(p)
	started, err := s.through.StartProof(ctx, as, p)
	if err != nil {
		s.mail.release()
		return "", err
	}
	d := Delivery{
		Purpose: Verify, Type: denizen.LocatorType(started.Type), Address: started.Address,
		Code: p.Secret, Language: languageTag(language), Expires: time.UnixMilli(started.Expires),
	}
	switch {
	case p.SignIn != "":
		d.Purpose = SignIn
	case p.Replaced != "":
		d.Purpose = Change
	}
	if link {
		d.Code, d.Link = "", s.o.Link+"#"+p.Secret
	}
	s.mail.send(&message{Delivery: d, started: started, as: as})
	return started.Handle, nil
}

// newCode returns eight random digits.
func newCode() string {
	n, _ := rand.Int(rand.Reader, big.NewInt(100_000_000)) // never fails since Go 1.24
	return fmt.Sprintf("%08d", n)
}

// SignedIn is somebody who signed in.
type SignedIn struct {
	// User owns the address. A blocked user is returned, too: IssueToken refuses it.
	User denizen.User
	// Locator is what was proved. If it is Stale, who signs in may be its next holder: ask for
	// more before IssueToken.
	Locator denizen.Locator
	// Device lets this device start again by this address when too many others did. It is good
	// for nothing else. Keep it where the person signs in next time, such as in a cookie.
	Device string

	locator string
}

// Finish uses up the handle and the code, or the secret of the link, that a start has sent, and
// returns the user who signs in. What that does is described by [denizen.Directory.ProveLocator].
// It is done in the commit that uses them up. Call [Service.IssueToken] next.
//
// A code that is wrong, used or too old is [denizen.ErrDenied] with Field "proof". So is the right
// one of an address that nobody owns if there are no newcomers. As must be .system.
func (s *Service) Finish(
	ctx context.Context, as denizen.Principal, proof, code string,
) (SignedIn, error) {
	var newcomer *denizen.NewUser
	if s.o.Newcomer != nil {
		n := s.o.Newcomer()
		newcomer = &n
	}
	u, locator, err := s.through.FinishSignIn(ctx, as, proof, typed(code), newcomer)
	if err != nil {
		return SignedIn{}, err
	}
	device := rand.Text()
	in := SignedIn{
		User: u.(denizen.User), Device: device + "." + s.deviceMAC(device, locator), locator: locator,
	}
	for _, l := range in.User.Locators {
		if string(l.Type)+":"+l.Canonical == locator {
			in.Locator = l
		}
	}
	return in, nil
}

// IssueToken is [denizen.Directory.IssueToken] for somebody who signed in. While a change that
// brought the locator may be undone, the token changes no locators. If the user lost the locator
// since Finish, such as by an undo, it is [denizen.ErrDenied] with Field "proof".
func (s *Service) IssueToken(
	ctx context.Context, as denizen.Principal, in SignedIn, o denizen.TokenOptions,
) (denizen.IssuedToken, error) {
	issued, err := s.through.IssueToken(ctx, as, string(in.User.ID), o, in.locator)
	if err != nil {
		return denizen.IssuedToken{}, err
	}
	return issued.(denizen.IssuedToken), nil
}

// Undo undoes a change of what a user is reached by, with the secret of Delivery.Undo: the locators
// are as before it, and all tokens, claims and proofs of the user end. A secret that undoes
// nothing, or no longer, is [denizen.ErrNotFound]. As must be .system.
func (s *Service) Undo(ctx context.Context, as denizen.Principal, secret string) error {
	return s.through.Undo(ctx, as, secret)
}

// StartVerify has a code sent to a locator of the user that as is, such as a pending claim, and
// returns the handle that it is good with. It answers the same whoever owns the address.
//
// As must have authenticated with a token that is live: nobody else proves anything for a user. It
// is [denizen.ErrDenied] without a token and [denizen.ErrRevoked] after its end. A user may have
// four such proofs at a time: one more is [denizen.ErrLimited] with RetryAfter, and so are too many
// starts for the address.
func (s *Service) StartVerify(
	ctx context.Context, as denizen.Principal, id denizen.LocatorID, language string,
) (proof string, err error) {
	return s.start(ctx, as, language, false, door.ProofStart{
		LocatorID: string(id), Secret: newCode(), Client: "user " + string(as.User()),
	})
}

// StartReplace is StartVerify for a locator that replaces the one with an id once it is proved.
// FinishVerify, with the id of the old one, does that in one commit.
func (s *Service) StartReplace(
	ctx context.Context, as denizen.Principal, id denizen.LocatorID, locator, language string,
) (proof string, err error) {
	if locator == "" {
		return "", invalid("StartReplace", "locator", "is missing")
	}
	return s.start(ctx, as, language, false, door.ProofStart{
		LocatorID: string(id), Replaced: locator, Secret: newCode(),
		Client: "user " + string(as.User()),
	})
}

// FinishVerify uses up the handle and the code that StartVerify or StartReplace has sent. In the
// same commit the locator becomes [denizen.Verified] and owned, in place of the one that it
// replaces.
//
// If the user had proved others before, each of these is sent a Notice. For 72 hours the change can
// be undone from there: see [Service.Undo].
//
// A code that is wrong, used or too old, or of another user or locator, is [denizen.ErrDenied] with
// Field "proof". If another user owns the locator by now it is [denizen.ErrTaken]. As is as in
// StartVerify.
func (s *Service) FinishVerify(
	ctx context.Context, as denizen.Principal, id denizen.LocatorID, proof, code string,
) (denizen.Locator, error) {
	l, err := s.through.FinishOwn(ctx, as, string(id), proof, typed(code))
	if err != nil {
		return denizen.Locator{}, err
	}
	return l.(denizen.Locator), nil
}

// typed returns a code as it was sent, where somebody typed it in groups.
func typed(code string) string {
	if len(code) > 64 {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return -1
		}
		return r
	}, code)
}

// device returns the name of the device that a start comes from, or "" unless it has signed in by
// this locator before.
func (s *Service) device(p door.ProofStart) string {
	kind, canonical, err := denizen.ParseLocator(p.SignIn)
	name, mac, ok := strings.Cut(p.Device, ".")
	if err != nil || !ok || len(p.Device) > 128 {
		return ""
	}
	want := s.deviceMAC(name, string(kind)+":"+canonical)
	if subtle.ConstantTimeCompare([]byte(mac), []byte(want)) != 1 {
		return ""
	}
	return name
}

func (s *Service) deviceMAC(name, locator string) string {
	return hex.EncodeToString(s.through.ProofMAC("device", name+" "+locator))
}

// languageTag returns a language tag if it may be one (RFC 5646), or "".
func languageTag(tag string) string {
	if len(tag) > 35 {
		return ""
	}
	for i := range len(tag) {
		switch b := tag[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-':
		default:
			return ""
		}
	}
	return tag
}
