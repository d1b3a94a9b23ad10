package signin

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"net/http"
	"strconv"
)

const (
	pageHead = `<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>` + pageStyle + `</style>
<title>`
	pageStyle = `
:root {
	color-scheme: light dark;
	--main: light-dark(#0b57d0, #a8c7fa); --on: light-dark(#fff, #062e6f);
}
body {
	max-width: 24rem; margin: 0 auto; padding: max(2rem, 12vh) 1rem 2rem;
	font: 1rem/1.5 system-ui, sans-serif;
}
h1 { margin: 0 0 1rem; font-size: 1.5rem }
p { margin: 0 0 1rem }
button {
	width: 100%; min-height: 2.75rem; font: inherit; border: 0; border-radius: .5rem;
	background: var(--main); color: var(--on); cursor: pointer;
}
button:disabled { opacity: .6; cursor: default }
output { display: block; margin-top: 1rem }
:focus-visible { outline: 3px solid var(--main); outline-offset: 2px }
`
	pageScript = `
const button = document.querySelector("button"), says = document.querySelector("output");
const {post, member, home} = document.body.dataset, secret = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
button.disabled = secret === "";
if (secret === "") says.textContent = "Follow the link in the message once more.";
button.onclick = async () => {
	button.disabled = true;
	try {
		const answer = await fetch(post, {
			method: "POST", headers: {"Content-Type": "application/json"},
			body: JSON.stringify({[member]: secret}),
		});
		if (answer.ok) { location.replace(home); return; }
		says.textContent = answer.status === 403 ?
			"This link is used or too old." : "That did not work. Try again.";
		button.disabled = answer.status === 403;
	} catch { says.textContent = "That did not work. Try again."; button.disabled = false; }
};
`
)

// page is a page that a link leads to. Opening it changes nothing.
type page struct {
	text   string
	policy string // lets only its own script run
}

// newPage returns a page with a button, which posts the secret in the fragment as a member to a
// path, and then goes home.
func newPage(title, question, post, member, home string) *page {
	return &page{
		text: pageHead + title + `</title>
<body data-post="` + post + `" data-member="` + member + `" data-home="` +
			html.EscapeString(home) + `">
<h1>` + question + `</h1>
<button disabled>` + title + `</button>
<output></output>
<noscript><p>This page needs JavaScript.</p></noscript>
<script>` + pageScript + `</script>
`,
		policy: pagePolicy() + "; connect-src 'self'; script-src " + source(pageScript),
	}
}

// pagePolicy lets nothing but its style into a page.
func pagePolicy() string {
	return "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
		"style-src " + source(pageStyle)
}

// source names a text for a policy.
func source(text string) string {
	digest := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'"
}

// newGoBackPage returns the page for whoever opens a link where nobody asked for it.
func newGoBackPage() *page {
	return &page{policy: pagePolicy(), text: pageHead + `Sign in</title>
<h1>Go back</h1>
<p>Open this link in the browser in which you asked to sign in.
If that was too long ago, ask again.</p>
`}
}

// write writes the page.
func (p *page) write(w http.ResponseWriter, status int) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", p.policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Length", strconv.Itoa(len(p.text)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(p.text)) // net/http leaves it out for HEAD
}
