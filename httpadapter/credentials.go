package httpadapter

import (
	"context"
	"crypto/md5"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/wire"
)

// The headers of existing clients, as net/http spells them.
const (
	headerToken       = wire.TokenHeader
	headerActAs       = "X-Mitter-Sudo-User-Id"
	headerApplication = "X-Mitter-Application-Id"
	headerAccessKey   = "X-Mitter-Application-Access-Key"
)

// credential is what a request says of who calls, before anything of it is checked.
type credential struct {
	kind   string // for Exchange.Credential
	token  string
	key    string
	secret string // with a digest: the digest
	actAs  string
	acting bool
}

// The kinds of credential.
const (
	kindNone    = ""
	kindSession = "session" // of the service's own: Options.Authenticate
	kindToken   = "token"
	kindCookie  = "cookie"
	kindBasic   = "basic"
	kindSigned  = "signed"
)

// isAmbient reports whether a browser adds the credential to requests by itself. A script of the
// page must then not get anything out of the response that it could use elsewhere.
func (c *credential) isAmbient() bool { return c.kind == kindCookie || c.kind == kindSession }

// mayBeUnasked reports whether a browser may have sent the request for a page that does not know
// the credential.
//
// For a cookie or a session that is always so. A credential in a header has to be set by the page,
// which one of another origin can only in a request of mode cors, and only if the service's CORS
// allows it. In any other mode something between the browser and this handler has put it there,
// such as middleware that makes a token of a session cookie.
//
// In mode cors the header alone does not tell the two apart. But a page's request to another origin
// has no cookies unless the page asks for them, so one that has some may have been let in by
// them. The cookies of the API itself are no sign of that: nothing has to make a header of them.
func (c *credential) mayBeUnasked(h http.Header) bool {
	switch c.kind {
	case kindNone:
		return false
	case kindCookie, kindSession:
		return true
	}
	mode := h.Get("Sec-Fetch-Mode")
	return mode != "" && mode != "cors" || hasOtherCookies(h)
}

// singleHeader returns the only value of a header. A second one is an error, whatever it says.
func singleHeader(h http.Header, name string) (value string, there bool, err error) {
	switch values := h[name]; len(values) {
	case 0:
		return "", false, nil
	case 1:
		return values[0], true, nil
	}
	return "", false, badValue(name, "must not be repeated")
}

// parseActing reads what may accompany any credential: for whom the caller acts.
func parseActing(h http.Header) (c credential, err error) {
	if _, _, err := singleHeader(h, headerApplication); err != nil {
		return c, err
	}
	c.actAs, c.acting, err = singleHeader(h, headerActAs)
	return c, err
}

// parseCredential reads the API's own credential of a request into c. One whose form is not allowed
// is 400, one that cannot be good is 401.
func parseCredential(r *http.Request, o *Options, c credential) (credential, error) {
	for _, name := range [...]string{"Nonce", "Content-Md5", "Date"} {
		if _, _, err := singleHeader(r.Header, name); err != nil {
			return c, err
		}
	}
	authorization, authorized, err := singleHeader(r.Header, "Authorization")
	if err != nil {
		return c, err
	}
	token, headed, err := singleHeader(r.Header, headerToken)
	if err != nil {
		return c, err
	}
	key, keyed, err := singleHeader(r.Header, headerAccessKey)
	if err != nil {
		return c, err
	}
	cookie, err := o.tokenCookie(r.Header)
	if err != nil {
		return c, err
	}
	if headed {
		c.kind, c.token = kindToken, token
	}
	switch {
	case cookie == nil:
	case c.kind == kindNone:
		c.kind, c.token = kindCookie, *cookie
	case c.token != *cookie:
		return c, badValue("Cookie", "must not hold another token")
	}
	scheme, rest, _ := strings.Cut(authorization, " ")
	switch {
	case !authorized:
		if keyed && c.kind != kindNone {
			return c, badValue(headerAccessKey, "must not stand beside a token")
		}
		if keyed {
			return c, badCredential("the request is not signed")
		}
		return c, nil
	case strings.EqualFold(scheme, "Bearer"):
		if keyed {
			return c, badValue(headerAccessKey, "must not stand beside a token")
		}
		if c.kind != kindNone && c.token != rest {
			return c, badValue("Authorization", "must not hold another token")
		}
		c.kind, c.token = kindToken, rest
		return c, nil
	case c.kind != kindNone:
		return c, badValue("Authorization", "must not stand beside a token")
	case strings.EqualFold(scheme, "Basic"):
		if keyed {
			return c, badValue(headerAccessKey, "must not stand beside Basic authorization")
		}
		pair, err := base64.StdEncoding.Strict().DecodeString(rest)
		key, secret, ok := strings.Cut(string(pair), ":")
		if err != nil || !ok {
			c.kind = kindBasic
			return c, badCredential("the credential is not good")
		}
		c.kind, c.key, c.secret = kindBasic, key, secret
		return c, nil
	case strings.EqualFold(scheme, "Auth"):
		c.kind = kindSigned
		signer, digest, ok := strings.Cut(rest, ":")
		if !ok || !keyed || signer != key {
			return c, badCredential("the credential is not good")
		}
		c.key, c.secret = key, digest
		return c, nil
	}
	return c, badCredential("the scheme of the Authorization is not known")
}

// session asks the service who calls. It is .anonymous if there is no session of the service's own.
func (c *call) session() (by denizen.Principal, err error) {
	if c.h.options.Authenticate == nil {
		return by, nil
	}
	by, err = c.h.options.Authenticate(c.r)
	if err != nil || !by.IsAnonymous() {
		c.credential.kind = kindSession
	}
	if err != nil {
		return denizen.Principal{}, c.sessionRefused(err)
	}
	return by, nil
}

// authenticate returns who calls by a credential of the API: .anonymous without one, and an error
// for any that is not good.
func (c *call) authenticate() (by denizen.Principal, err error) {
	if c.credential, err = parseCredential(c.r, &c.h.options, c.credential); err != nil {
		return by, err
	}
	ctx, dir := c.r.Context(), c.h.dir
	switch c.credential.kind {
	case kindToken, kindCookie:
		return dir.Authenticate(ctx, c.credential.token)
	case kindBasic:
		return dir.AuthenticateKey(ctx, c.credential.key, c.credential.secret)
	case kindSigned:
		if !c.h.options.Signed {
			return by, badCredential("signed requests are not taken here")
		}
		request, err := c.signedRequest()
		if err != nil {
			return by, err
		}
		return authenticateSigned(ctx, dir, request)
	}
	return by, nil
}

// authenticateSigned tries the path as it was sent and, if that is not what was signed, decoded
// once, as some clients sign it. A decoded path that still holds an escape is not tried: it is how
// another path is sent, and whoever signed that did not sign this one. Neither refusal uses up the
// nonce.
func authenticateSigned(
	ctx context.Context, dir *denizen.Directory, s denizen.SignedRequest,
) (denizen.Principal, error) {
	by, err := dir.AuthenticateSigned(ctx, s)
	e, ok := errors.AsType[*denizen.Error](err)
	if !ok || e.Kind != denizen.ErrUnauthenticated || e.Field != "digest" {
		return by, err
	}
	decoded, decodeErr := decodeSegment(s.Path)
	if decodeErr != nil || decoded == s.Path || hasEscape(decoded) {
		return by, err
	}
	s.Path = decoded
	return dir.AuthenticateSigned(ctx, s)
}

// hasEscape reports whether something in a path is percent-encoded.
func hasEscape(path string) bool {
	for i := range len(path) {
		if path[i] == '%' && i+2 < len(path) && isHex(path[i+1]) && isHex(path[i+2]) {
			return true
		}
	}
	return false
}

func isHex(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F'
}

// signedRequest returns what a signed request signs. It reads the body and checks its digest first,
// as the nonce must not be spent on a request that cannot be served.
func (c *call) signedRequest() (s denizen.SignedRequest, err error) {
	header := c.r.Header
	s = denizen.SignedRequest{
		AccessKey: c.credential.key, Digest: c.credential.secret, Method: c.r.Method,
		ContentType: "null", Path: c.path, Nonce: header.Get("Nonce"), Date: header.Get("Date"),
	}
	switch c.r.Method {
	case "POST", "PUT", "PATCH":
		s.ContentType = "application/json"
	}
	b, err := c.body()
	if err != nil {
		return s, err
	}
	if s.ContentType == "null" && len(b) > 0 {
		return s, badSyntax("a signed " + s.Method + " has no body")
	}
	sum := md5.Sum(b)
	s.ContentMD5 = base64.StdEncoding.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(s.ContentMD5), []byte(header.Get("Content-Md5"))) != 1 {
		return s, badCredential("the Content-MD5 is not that of the body")
	}
	return s, nil
}
