package main

import (
	"fmt"
	"net/http"
	"strings"
)

// What a page of the allowed origin may send, and which headers of a response it may read beside
// those that any page may. Browsers set Date themselves; some clients name it all the same.
const (
	allowedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE"
	allowedHeaders = "Authorization, Content-Type, Content-MD5, Date, Nonce, Idempotency-Key, " +
		"If-Match, If-None-Match, X-Request-Id, X-Issued-Mitter-User-Authorization, " +
		"X-Mitter-Application-Id, X-Mitter-Application-Access-Key, X-Mitter-Sudo-User-Id"
	exposedHeaders = "ETag, Link, Location, Retry-After, X-Mitter-Paginated-Estimated-Count, " +
		"X-Request-Id"
)

// cors lets pages of one origin call the service, and of no other. They send a token in a header.
// Credentials are never allowed here, so that a browser sends their requests without the cookie,
// which is for the pages of the service itself, and the sign-in lets no page of another origin sign
// anybody in. Where they are allowed, the origin has to be trusted in
// httpadapter.Options.CrossOrigin and signin.HandlerOptions.CrossOrigin, too.
func cors(origin string, next http.Handler) http.Handler {
	if origin == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		if from := r.Header["Origin"]; len(from) != 1 || from[0] != origin {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Origin", origin)
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", allowedMethods)
			h.Set("Access-Control-Allow-Headers", allowedHeaders)
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h.Set("Access-Control-Expose-Headers", exposedHeaders)
		next.ServeHTTP(w, r)
	})
}

// checkOrigin says what is wrong with an origin that is to be allowed.
func checkOrigin(origin string) error {
	err := http.NewCrossOriginProtection().AddTrustedOrigin(origin)
	if origin != "" && (err != nil || origin != strings.ToLower(origin)) {
		return fmt.Errorf("-allow-origin %s: must be an origin as browsers send it, "+
			"such as https://app.example.org", origin)
	}
	return nil
}
