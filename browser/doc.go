// Package browser tests the pages of the examples, and those of package signin, in Chromium. It is
// a module of its own, so that nobody who imports the directory gets what drives a browser.
//
//	go -C browser test ./...
//
// It needs a program named chromium, which Debian's package of that name brings. Without one the
// tests are skipped, or fail if CI is "true". DENIZEN_PICTURES names a directory where pictures of
// the pages are written.
package browser
