package record

// Owns reports whether the user owns a locator, given as type:canonical.
func (r *User) Owns(locator string) bool {
	for i := range r.Locators {
		if l := &r.Locators[i]; l.Owned && l.Is(locator) {
			return true
		}
	}
	return false
}

// Is reports whether l is the locator type:canonical. It allocates nothing.
func (l *Locator) Is(locator string) bool {
	n := len(l.Type)
	return len(locator) == n+1+len(l.Canonical) &&
		locator[:n] == l.Type && locator[n] == ':' && locator[n+1:] == l.Canonical
}

// Names returns the user whom a record is of, or "" if it is of none.
func Names(value any) (user, incarnation string) {
	switch r := value.(type) {
	case *User:
		return r.ID, r.Incarnation
	case *Profile:
		return r.User, r.Incarnation
	case *Devices:
		return r.User, r.Incarnation
	case *Here:
		return r.User, r.Incarnation
	case *Active:
		return r.User, r.Incarnation
	case *Tokens:
		return r.User, r.Incarnation
	case *TokenText:
		return r.User, r.Incarnation
	case *Owner:
		return r.User, r.Incarnation
	case *Unique:
		return r.User, r.Incarnation
	case *Rest:
		return r.User, r.Incarnation
	case *Created:
		return r.User, r.Incarnation
	case *Undo:
		return r.User, r.Incarnation
	case *UserProofs:
		return r.User, r.Incarnation
	case *Proof:
		return r.User, r.Incarnation
	case *Alias:
		return r.User, r.Incarnation
	}
	return "", ""
}
