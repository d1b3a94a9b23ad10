package httpadapter

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxParams is how many parameters a path can have.
const maxParams = 2

// node is a place in the tree of the routes' segments.
type node struct {
	fixed  map[string]*node
	param  *node
	routes []*route // by method
	allow  string   // their methods, for the header
}

// newTree returns the root of the tree of routes.
func newTree(routes []route) *node {
	root := new(node)
	for i := range routes {
		n := root
		for segment := range strings.SplitSeq(strings.TrimPrefix(routes[i].pattern, "/"), "/") {
			next := &n.param
			if !strings.HasPrefix(segment, "{") {
				if n.fixed == nil {
					n.fixed = make(map[string]*node)
				}
				if n.fixed[segment] == nil {
					n.fixed[segment] = new(node)
				}
				n = n.fixed[segment]
				continue
			}
			if *next == nil {
				*next = new(node)
			}
			n = *next
		}
		n.routes = append(n.routes, &routes[i])
	}
	root.listMethods()
	return root
}

// listMethods fills in allow, in n and below.
func (n *node) listMethods() {
	var methods []string
	for _, r := range n.routes {
		methods = append(methods, r.method)
		if r.method == "GET" {
			methods = append(methods, "HEAD")
		}
	}
	slices.Sort(methods)
	n.allow = strings.Join(methods, ", ")
	for _, child := range n.fixed {
		child.listMethods()
	}
	if n.param != nil {
		n.param.listMethods()
	}
}

// find walks an escaped path down the tree, and returns nil where there is no such path. A fixed
// segment matches as it was sent, undecoded, and goes before a parameter. Parameters are decoded
// once, into params.
func (n *node) find(path string, params []string) (*node, error) {
	if path == "" {
		if len(n.routes) == 0 {
			return nil, nil
		}
		return n, nil
	}
	if path[0] != '/' {
		return nil, nil
	}
	segment, rest := path[1:], ""
	if end := strings.IndexByte(segment, '/'); end >= 0 {
		segment, rest = segment[:end], segment[end:]
	}
	if next := n.fixed[segment]; next != nil {
		if found, err := next.find(rest, params); found != nil || err != nil {
			return found, err
		}
	}
	if n.param == nil || segment == "" {
		return nil, nil
	}
	value, err := decodeSegment(segment)
	if err != nil {
		return nil, err
	}
	params[0] = value
	return n.param.find(rest, params[1:])
}

// route returns the route of a method, that of GET for HEAD, or nil.
func (n *node) route(method string) *route {
	if method == "HEAD" {
		method = "GET"
	}
	for _, r := range n.routes {
		if r.method == method {
			return r
		}
	}
	return nil
}

// decodeSegment decodes a segment of a path, and refuses one that could be read in two ways.
func decodeSegment(segment string) (string, error) {
	value := segment
	if strings.IndexByte(segment, '%') >= 0 {
		var err error
		if value, err = url.PathUnescape(segment); err != nil {
			return "", badValue("path", "is not percent-encoded as it should be")
		}
	}
	if value == "." || value == ".." {
		return "", badValue("path", "must not have dot segments")
	}
	if !utf8.ValidString(value) {
		return "", badValue("path", "must be UTF-8")
	}
	for i := range len(value) {
		if value[i] < ' ' || value[i] == 0x7f {
			return "", badValue("path", "must not hold control characters")
		}
	}
	return value, nil
}
