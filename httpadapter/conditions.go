package httpadapter

import (
	"errors"
	"math"
	"strings"

	"github.com/denizenhq/denizen"
)

// matches reports whether an entity tag is in the lists of If-Match or If-None-Match headers (RFC
// 9110 §13.1). A weak comparison ignores W/.
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

// version is the version of what a write is conditioned on.
type version interface {
	denizen.UserVersion | denizen.ProfileVersion
}

// current returns the tag and the version of what a write changes, as the caller is shown it.
type current[V version] func() (tag string, version V, err error)

// withVersion makes a write on the condition of If-Match: for the version whose tag the header
// names, or for any where the header is absent or *.
//
// Where the header does not name the present tag the write is made for noVersion, so that the
// directory refuses it. A caller who may not write, or where nothing is, is told that first.
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
		if err != nil || !namesTag(lines, tag) {
			return write(noVersion)
		}
		if err = write(version); !isConflict(err) || try == tries {
			return err
		}
	}
}

// namesTag reports whether If-Match names a tag. The tag of a user with attributes has that of the
// profile after a dot, which is ignored: a write of the user does not depend on it.
func namesTag(lines []string, tag string) bool {
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

// userNow returns the current of a user.
func (c *call) userNow(id denizen.UserID) current[denizen.UserVersion] {
	return func() (string, denizen.UserVersion, error) {
		u, err := c.h.dir.User(c.r.Context(), c.by, id)
		if err != nil {
			return "", 0, err
		}
		return etag(encode(c.userBody(u, nil))), u.Version, nil
	}
}

// profileNow returns the current of a profile.
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
