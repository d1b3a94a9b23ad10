// Package token mints and verifies the signed tokens of a directory.
//
// A token is a JWT (RFC 7519) in JWS compact form (RFC 7515), signed with Ed25519 (RFC 8037). There
// is one algorithm, and one header per key, so a header is compared and never parsed. There is also
// only one spelling of everything: a text that verifies is, byte for byte, a text that was signed.
// No JSON is decoded before the signature is verified.
//
// The package is pure. It has no clock and no state, and it does not know which tokens are revoked.
package token
