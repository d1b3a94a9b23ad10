// Package spec holds the tests that need heavy test-only libraries. Nothing imports it,
// so no importer of the module pays for what it needs.
package spec
