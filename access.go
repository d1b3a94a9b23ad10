package denizen

import "context"

// role is what a principal is to the user an operation is about. For an operation that is
// about no user every user is other.
type role uint8

const (
	anonymous role = iota
	other
	self
	system
	numRoles
)

// verdict is a cell of the access table. The zero value refuses, so a hole in the table
// lets nobody in.
type verdict uint8

const (
	deny verdict = iota
	peer         // the host's word decides: Options.MaySee
	allow
)

// op is an exported operation that takes a principal, or several that ask the same.
type op uint8

const (
	opActAs op = iota
	opCheck
	opResolveUser
	opCreateUser
	opReadUser
	opListUsers
	opFindUsers
	opSetScreenName
	opBlockUser
	opDeleteUser
	opReadLocators
	opAddLocator
	opRemoveLocator
	opSetLocators
	opSetVerification
	opRekeyLocators
	opProve
	opDefine
	opReadDefinitions
	opReadProfile
	opWriteProfile
	opReadPresence
	opReadDevices
	opWritePresence
	opIssueToken
	opReadTokens
	opExtendToken
	opRevokeToken
	opLogout
	opAccessKeys
	opSigningKeys
	opFeed
	opHealth
	numOps
)

// access is who may do what. Nothing else decides it.
var access = [numOps][numRoles]verdict{
	opActAs:           {system: allow},
	opCheck:           {self: allow, system: allow},
	opResolveUser:     {other: allow, self: allow, system: allow},
	opCreateUser:      {system: allow},
	opReadUser:        {other: peer, self: allow, system: allow},
	opListUsers:       {system: allow},
	opFindUsers:       {system: allow},
	opSetScreenName:   {self: allow, system: allow},
	opBlockUser:       {system: allow},
	opDeleteUser:      {system: allow},
	opReadLocators:    {self: allow, system: allow},
	opAddLocator:      {self: allow, system: allow},
	opRemoveLocator:   {self: allow, system: allow},
	opSetLocators:     {system: allow},
	opSetVerification: {system: allow},
	opRekeyLocators:   {system: allow},
	opProve:           {system: allow},
	opDefine:          {system: allow},
	opReadDefinitions: {other: allow, self: allow, system: allow},
	opReadProfile:     {other: peer, self: allow, system: allow},
	opWriteProfile:    {self: allow, system: allow},
	opReadPresence:    {other: peer, self: allow, system: allow},
	opReadDevices:     {self: allow, system: allow},
	opWritePresence:   {self: allow, system: allow},
	opIssueToken:      {system: allow},
	opReadTokens:      {self: allow, system: allow},
	opExtendToken:     {self: allow, system: allow},
	opRevokeToken:     {self: allow, system: allow},
	opLogout:          {self: allow},
	opAccessKeys:      {system: allow},
	opSigningKeys:     {system: allow},
	opFeed:            {system: allow},
	opHealth:          {system: allow},
}

// untargeted is the operations that have no user for a target, or none that is looked at.
var untargeted = [numOps]bool{
	opActAs: true, opCheck: true, opResolveUser: true, opCreateUser: true, opListUsers: true, opFindUsers: true, opProve: true, opRekeyLocators: true, opDefine: true,
	opReadDefinitions: true, opLogout: true, opAccessKeys: true, opSigningKeys: true, opFeed: true, opHealth: true,
}

// facets is what a peer cell asks the host about.
var facets = [numOps]Facet{
	opReadUser:     FacetScreenName,
	opReadProfile:  FacetProfile,
	opReadPresence: FacetPresence,
}

// Facet is what one user may be shown of another, if Options.MaySee allows it.
type Facet uint8

// What there is to be shown. A screen name comes with the id and nothing else.
const (
	FacetScreenName Facet = iota + 1
	FacetProfile
	FacetPresence
)

// String answers "screenName", "profile" or "presence".
func (f Facet) String() string {
	switch f {
	case FacetScreenName:
		return "screenName"
	case FacetProfile:
		return "profile"
	case FacetPresence:
		return "presence"
	}
	return "unknown facet"
}

// call is an operation that was let in: who asks, in which role, about whom.
type call struct {
	op     op
	by     Principal
	role   role
	target UserID // empty where the operation is about no user
	now    int64
}

// nobody is the target of an operation that is about no user.
const noTarget UserID = ""

// enter decides whether by may do op to target. It is the first thing every exported
// method with a principal does, and looks nothing up: a refusal is the same whether the
// target exists or not. That by still stands is seen later, in the snapshot of the data.
func (d *Directory) enter(ctx context.Context, op op, by Principal, target UserID) (c call, err error) {
	c.op, c.by, c.role, c.target = op, by, by.roleFor(target), target
	verdict := access[op][c.role]
	if verdict == deny {
		return call{}, denied()
	}
	if !untargeted[op] && c.role != self { // whose id is that of a user who was there
		if reason := checkUserID(string(target)); reason != "" {
			return call{}, invalid("user", reason)
		}
	}
	if verdict == peer {
		if d.options.MaySee == nil {
			return call{}, denied()
		}
		may, err := d.options.MaySee(ctx, by.user, target, facets[op])
		if err != nil {
			return call{}, err
		}
		if !may {
			return call{}, denied()
		}
	}
	c.now = d.clock.Now()
	return c, nil
}

func denied() error { return newError(ErrDenied, "", "") }

func (p Principal) roleFor(target UserID) role {
	switch {
	case p.kind == kindSystem:
		return system
	case p.kind == kindUser && p.user == target:
		return self
	case p.kind == kindUser:
		return other
	}
	return anonymous
}
