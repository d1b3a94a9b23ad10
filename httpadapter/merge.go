package httpadapter

import "github.com/denizenhq/denizen"

// mergeRules are the names of what decides where both users have an attribute.
var mergeRules = map[string]denizen.MergeRule{
	"into": denizen.KeepInto, "from": denizen.TakeFrom, "refuse": denizen.RefuseConflicts,
}

func mergeUsers(c *call) (reply, error) {
	f, err := asObject(c.given)
	if err != nil {
		return reply{}, err
	}
	into := f.text("into")
	var policy denizen.MergePolicy
	if given, there := f.member("policy"); there {
		if policy, err = mergePolicy(given); err != nil {
			return reply{}, err
		}
	}
	switch {
	case *f.err != nil:
		return reply{}, *f.err
	case !f.has("into"):
		return reply{}, badValue("into", "is missing")
	}
	from, err := c.user()
	if err != nil {
		return reply{}, err
	}
	_, err = c.h.dir.MergeUsers(c.r.Context(), c.by, from, denizen.UserID(into), policy)
	return noContent(err)
}

func mergePolicy(f fields) (p denizen.MergePolicy, err error) {
	rule, known := mergeRules[f.text("attributes")]
	p.Attributes, p.Alias = rule, f.seconds("aliasTtl")
	forever := f.flag("aliasForever", false)
	switch {
	case *f.err != nil:
		return p, *f.err
	case !known && f.has("attributes"):
		return p, badValue("attributes", "must be into, from or refuse")
	case forever && f.has("aliasTtl"):
		return p, badValue("aliasTtl", "must not be given with aliasForever")
	case p.Alias < 0:
		return p, badValue("aliasTtl", "must not be negative")
	case forever:
		p.Alias = denizen.Forever
	}
	return p, nil
}
