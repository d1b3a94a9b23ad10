package denizen

import (
	"cmp"
	"context"

	"github.com/denizenhq/denizen/store"
)

// role is what a principal is to the user whom an operation is about. If it is about no user, every
// user is other.
type role uint8

const (
	anonymous role = iota
	other
	self
	system
	numRoles
)

// verdict is a cell of the access table. Its zero value refuses, so a hole in the table lets nobody
// in.
type verdict uint8

const (
	deny verdict = iota
	peer         // Options.MaySee decides
	allow
)

// op is an exported operation that takes a principal, or several operations with the same rule.
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
	opMergeUsers
	opEraseUser
	opExportUser
	opReadLocators
	opAddLocator
	opRemoveLocator
	opSetLocators
	opSetVerification
	opMoveLocator
	opRekeyLocators
	opProve
	opCancelUndo
	opDefine
	opReadDefinitions
	opReadProfile
	opWriteProfile
	opReadPresence
	opReadDevices
	opWritePresence
	opWatchPresence
	opReadActivity
	opIssueToken
	opReadTokens
	opExtendToken
	opRevokeToken
	opLogout
	opAccessKeys
	opSigningKeys
	opFeed
	opHealth
	opOperate
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
	opMergeUsers:      {system: allow},
	opEraseUser:       {system: allow},
	opExportUser:      {self: allow, system: allow},
	opReadLocators:    {self: allow, system: allow},
	opAddLocator:      {self: allow, system: allow},
	opRemoveLocator:   {self: allow, system: allow},
	opSetLocators:     {system: allow},
	opSetVerification: {system: allow},
	opMoveLocator:     {system: allow},
	opRekeyLocators:   {system: allow},
	opProve:           {system: allow},
	opCancelUndo:      {system: allow},
	opDefine:          {system: allow},
	opReadDefinitions: {other: allow, self: allow, system: allow},
	opReadProfile:     {other: peer, self: allow, system: allow},
	opWriteProfile:    {self: allow, system: allow},
	opReadPresence:    {other: peer, self: allow, system: allow},
	opReadDevices:     {self: allow, system: allow},
	opWritePresence:   {self: allow, system: allow},
	opWatchPresence:   {self: allow, system: allow},
	opReadActivity:    {other: peer, self: allow, system: allow},
	opIssueToken:      {system: allow},
	opReadTokens:      {self: allow, system: allow},
	opExtendToken:     {self: allow, system: allow},
	opRevokeToken:     {self: allow, system: allow},
	opLogout:          {self: allow},
	opAccessKeys:      {system: allow},
	opSigningKeys:     {system: allow},
	opFeed:            {system: allow},
	opHealth:          {system: allow},
	opOperate:         {system: allow},
}

// untargeted is the operations that are about no user, or whose target is checked later.
var untargeted = [numOps]bool{
	opActAs: true, opCheck: true, opWatchPresence: true, opResolveUser: true, opCreateUser: true,
	opListUsers: true, opFindUsers: true, opProve: true, opRekeyLocators: true, opDefine: true,
	opReadDefinitions: true, opLogout: true, opAccessKeys: true, opSigningKeys: true,
	opFeed: true, opHealth: true, opOperate: true,
}

// facets is what Options.MaySee is asked about in a peer cell.
var facets = [numOps]Facet{
	opReadUser:     FacetScreenName,
	opReadProfile:  FacetProfile,
	opReadPresence: FacetPresence,
	opReadActivity: FacetLastActive,
}

// Facet is what one user may be shown of another. It is what Options.MaySee is asked about.
type Facet uint8

// The facets. With the screen name a peer is shown the id, and nothing else.
const (
	FacetScreenName Facet = iota + 1
	FacetProfile
	FacetPresence
	FacetLastActive
)

// String returns "screenName", "profile", "presence" or "lastActive".
func (f Facet) String() string {
	switch f {
	case FacetScreenName:
		return "screenName"
	case FacetProfile:
		return "profile"
	case FacetPresence:
		return "presence"
	case FacetLastActive:
		return "lastActive"
	}
	return "unknown facet"
}

// call is an operation that was let in: who calls, in which role, about whom.
type call struct {
	op     op
	by     Principal
	role   role
	target UserID // empty where the operation is about no user
	now    int64
	stale  int64 // what was verified before is Stale; 0: nothing is

	// contended is what the call contends for with others: see queue. Empty: the target.
	contended store.Key
	// gathers holds the keys that a write reads which many callers make at once.
	gathers []store.Key
}

// about returns a copy of c that is about another user, for a caller that may do op to everyone.
func (c *call) about(user UserID) call {
	other := *c
	other.target = user
	return other
}

// noTarget is the target of an operation that is about no user.
const noTarget UserID = ""

// enter decides whether by may do op to target. Every exported method with a Principal calls it
// first. It looks nothing up, so a refusal is the same whether the target exists or not. Whether by
// is still valid is checked later, together with the data: see Directory.read.
func (d *Directory) enter(
	ctx context.Context, op op, by Principal, target UserID,
) (c call, err error) {
	c.op, c.by, c.role, c.target = op, by, by.roleFor(target), target
	verdict := access[op][c.role]
	if verdict == deny {
		return call{}, cmp.Or(by.checkNamed(), denied())
	}
	if !untargeted[op] && c.role != self { // the id of an authenticated user is valid
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
	if d.options.VerifiedFor > 0 {
		c.stale = c.now - d.options.VerifiedFor.Milliseconds()
	}
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
