package httpadapter

import (
	"errors"
	"math"
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

// maxTags bounds how many tags of If-Match are compared.
const maxTags = 16

// noVersion is the version of no record.
const noVersion = math.MaxUint64

// version is the version of what a write may rest on.
type version interface {
	denizen.UserVersion | denizen.ProfileVersion
}

// current reads what a write changes, as the caller is shown it: its tag, and its version.
type current[V version] func() (tag string, version V, err error)

// withVersion makes a write on condition of what If-Match names: without a version where the
// header is not there or is *, otherwise for the version whose tag it names. Where it names none
// that is present the write is made all the same, to be refused: who may not, or where nothing
// is, learns that first.
func withVersion[V version](c *call, now current[V], write func(expected ...V) error) error {
	lines := c.r.Header["If-Match"]
	if len(lines) == 0 || matches(lines, "*", false) {
		return write()
	}
	tags := 0
	for _, line := range lines {
		tags += 1 + strings.Count(strings.TrimRight(line, ", \t"), ",")
	}
	if tags > maxTags {
		return badValue("If-Match", "must be 16 at most")
	}
	const tries = 4 // another write in between may leave the tag as it is
	for try := 1; ; try++ {
		tag, version, err := now()
		if err != nil || !names(lines, tag) {
			return write(noVersion)
		}
		if err = write(version); !isConflict(err) || try == tries {
			return err
		}
	}
}

// names reports whether If-Match names a tag. That of a user with attributes names the profile's
// after a dot, which a write of the user does not rest on.
func names(lines []string, tag string) bool {
	for _, line := range lines {
		for named := range strings.SplitSeq(line, ",") {
			named = strings.Trim(named, " \t")
			if user, _, with := strings.Cut(named, "."); with {
				named = user + `"`
			}
			if named == tag {
				return true
			}
		}
	}
	return false
}

// userNow reads the user that a write changes.
func (c *call) userNow(id denizen.UserID) current[denizen.UserVersion] {
	return func() (string, denizen.UserVersion, error) {
		u, err := c.h.dir.User(c.r.Context(), c.by, id)
		if err != nil {
			return "", 0, err
		}
		return etag(encode(c.userBody(u, nil))), u.Version, nil
	}
}

// profileNow reads the profile that a write changes.
func (c *call) profileNow(id denizen.UserID) current[denizen.ProfileVersion] {
	return func() (string, denizen.ProfileVersion, error) {
		profile, err := c.h.dir.Profile(c.r.Context(), c.by, id)
		if err != nil {
			return "", 0, err
		}
		return etag(encode(newProfileShape(profile))), profile.Version, nil
	}
}

func isConflict(err error) bool {
	e, ok := errors.AsType[*denizen.Error](err)
	return ok && e.Kind == denizen.ErrConflict && e.Field == "version"
}
