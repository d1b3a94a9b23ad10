package httpadapter

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/denizenhq/denizen"
)

// matches reports whether an entity tag is in the lists of If-Match or If-None-Match headers
// (RFC 9110 §13.1). Comparing weakly, W/ is passed over.
func matches(headers []string, etag string, weakly bool) bool {
	for _, line := range headers {
		for tag := range strings.SplitSeq(line, ",") {
			tag = strings.Trim(tag, " \t")
			if weakly {
				tag = strings.TrimPrefix(tag, "W/")
			}
			if tag == etag || tag == "*" {
				return true
			}
		}
	}
	return false
}

// maxTags bounds how many versions a write is tried for.
const maxTags = 16

// noVersion is the version of no record.
const noVersion denizen.Version = math.MaxUint64

// withVersion makes a write on condition of what If-Match names: once without a version where
// the header is not there or is *, otherwise for each version until one is the present one. Of
// none it is made all the same, to be refused: who may not, or where nothing is, learns that first.
func (c *call) withVersion(write func(expected ...denizen.Version) error) (err error) {
	lines := c.r.Header["If-Match"]
	if len(lines) == 0 || matches(lines, "*", false) {
		return write()
	}
	tried := 0
	for _, line := range lines {
		for tag := range strings.SplitSeq(line, ",") {
			version, ok := parseETag(strings.Trim(tag, " \t"))
			if !ok {
				continue // not one of ours, so it matches nothing
			}
			if tried++; tried > maxTags {
				return badValue("If-Match", "must be 16 at most")
			}
			if err = write(version); !isConflict(err) {
				return err
			}
		}
	}
	if tried == 0 {
		return write(noVersion)
	}
	return err
}

// parseETag answers the version of a strong entity tag. That of a user with attributes names
// the profile's after a dot, which a write of the user does not rest on.
func parseETag(tag string) (denizen.Version, bool) {
	if len(tag) < 3 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return 0, false
	}
	text, _, _ := strings.Cut(tag[1:len(tag)-1], ".")
	version, err := strconv.ParseUint(text, 10, 64)
	return denizen.Version(version), err == nil
}

func isConflict(err error) bool {
	e, ok := errors.AsType[*denizen.Error](err)
	return ok && e.Kind == denizen.ErrConflict && e.Field == "version"
}
