// Package token mints and verifies the signed tokens of a directory.
//
// A token is a JWT (RFC 7519) in JWS compact form (RFC 7515), signed with Ed25519
// (RFC 8037). There is one algorithm and one header per key, so a header is compared and
// never read, and one spelling of everything: a text that verifies is, byte for byte, a
// text that was signed. Nothing of a text is decoded as JSON before its signature is
// proved.
//
// The package is pure: it has no clock, keeps nothing and asks nobody. Whether a token
// was revoked is not its business.
package token
