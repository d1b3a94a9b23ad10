// Package external is a type of locators for identities at sign-in providers,
// external:issuer|subject. A host registers it:
//
//	denizen.Options{LocatorTypes: []denizen.LocatorRule{external.Rule()}}
//
// An identity is the iss and the sub of an ID token of OpenID Connect, byte for byte. Nothing is
// folded, because only the issuer knows which of its subjects are the same.
//
// A host that has checked such a token finds its user by [denizen.Directory.Locate], or creates one
// with the identity. Only .system may add an identity, and it is Verified at once.
package external

import (
	"strings"

	"github.com/denizenhq/denizen"
)

// Type is the type of external identities as locators.
const Type denizen.LocatorType = "external"

// Rule returns the rule of external identities, to be registered. A user may have several, as far
// as [denizen.MaxLocators] allows.
func Rule() denizen.LocatorRule {
	return denizen.LocatorRule{
		Type: Type, Version: 1, Vouched: true, PerUser: denizen.MaxLocators,
		Canonical: func(identity string) (denizen.LocatorForms, error) {
			issuer, subject, found := strings.Cut(identity, "|")
			if !found || issuer == "" || subject == "" {
				return denizen.LocatorForms{}, refuse(
					"external identity is not an issuer, a bar and a subject")
			}
			return denizen.LocatorForms{Canonical: identity}, nil
		},
	}
}

// New returns an external identity to be added or looked up, or [denizen.ErrInvalid] with Field
// "locator". The issuer must not be empty or hold a bar, and the subject must not be empty. Both
// have at most [denizen.MaxLocatorBytes], with the bar between them.
func New(issuer, subject string) (denizen.NewLocator, error) {
	switch {
	case issuer == "" || subject == "":
		return denizen.NewLocator{}, refuse("external identity has no issuer or no subject")
	case strings.Contains(issuer, "|"):
		// Otherwise issuer a|b with subject c would be issuer a with subject b|c.
		return denizen.NewLocator{}, refuse("issuer of an external identity holds a bar")
	case len(issuer)+1+len(subject) > denizen.MaxLocatorBytes:
		return denizen.NewLocator{}, refuse("external identity is longer than 768 bytes")
	}
	return denizen.NewLocator{Locator: string(Type) + ":" + issuer + "|" + subject}, nil
}

func refuse(reason string) error {
	return &denizen.Error{Kind: denizen.ErrInvalid, Field: "locator", Reason: reason}
}
