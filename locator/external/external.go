// Package external is a type of locators for the identities that providers give to people who sign
// in by them: external:issuer|subject. A host registers it:
//
//	denizen.Options{LocatorTypes: []denizen.LocatorRule{external.Rule()}}
//
// An identity is what an ID token of OpenID Connect says: its iss and its sub, byte for byte.
// Nothing is folded, because only the issuer knows what tells its subjects apart. A host that
// checked such a token finds its user, as .system, by [denizen.Directory.Locate], or creates one
// with the identity. Nobody else adds one: it is Verified by having been added.
package external

import (
	"strings"

	"github.com/denizenhq/denizen"
)

// Type is the type of external identities as locators.
const Type denizen.LocatorType = "external"

// Rule returns the rule of external identities, to be registered. A user has MaxLocators at most.
func Rule() denizen.LocatorRule {
	return denizen.LocatorRule{
		Type: Type, Version: 1, Vouched: true, PerUser: denizen.MaxLocators,
		Canonical: func(identity string) (denizen.LocatorForms, error) {
			issuer, subject, found := strings.Cut(identity, "|")
			if !found || issuer == "" || subject == "" {
				return denizen.LocatorForms{}, refuse("external identity is not an issuer, a bar and a subject")
			}
			return denizen.LocatorForms{Canonical: identity}, nil
		},
	}
}

// New returns an external identity to be added or looked up, or ErrInvalid with Field "locator". An
// issuer is not empty and holds no bar, a subject is not empty. Both together, with the bar, are
// MaxLocatorBytes at most.
func New(issuer, subject string) (denizen.NewLocator, error) {
	switch {
	case issuer == "" || subject == "":
		return denizen.NewLocator{}, refuse("external identity has no issuer or no subject")
	case strings.Contains(issuer, "|"):
		// a|b with c would be a with b|c.
		return denizen.NewLocator{}, refuse("issuer of an external identity holds a bar")
	case len(issuer)+1+len(subject) > denizen.MaxLocatorBytes:
		return denizen.NewLocator{}, refuse("external identity is longer than 768 bytes")
	}
	return denizen.NewLocator{Locator: string(Type) + ":" + issuer + "|" + subject}, nil
}

func refuse(reason string) error {
	return &denizen.Error{Kind: denizen.ErrInvalid, Field: "locator", Reason: reason}
}
