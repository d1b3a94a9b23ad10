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
