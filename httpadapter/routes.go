package httpadapter

// A route is a method and a path, the directory's operation behind it, and what decodes the
// request, calls the directory and encodes its answer.
type route struct {
	method    string
	pattern   string
	operation string // the method of denizen.Directory
	takes     body
	answer    func(*call) (reply, error)
	open      bool // a document: it names no user and needs no credential
}

// body is whether a route takes one. One that takes none leaves it unread.
type body uint8

const (
	nothing body = iota
	optional
	required
)

// routes is all that is served. Where a path says {userIds} it takes a list, at most 100.
var routes = []route{
	{method: "POST", pattern: "/v1/users", operation: "CreateUser", takes: required, answer: createUser},
	{method: "GET", pattern: "/v1/users", operation: "Users", answer: listUsers},
	{method: "GET", pattern: "/v1/users/{userId}", operation: "User", answer: getUser},
	{method: "PATCH", pattern: "/v1/users/{userId}", operation: "BlockUser", takes: required, answer: blockUser},
	{method: "DELETE", pattern: "/v1/users/{userId}", operation: "DeleteUser", answer: deleteUser},
	{method: "GET", pattern: "/v1/users/{userIds}/screenname", operation: "UsersByID", answer: getScreenNames},
	{method: "PUT", pattern: "/v1/users/{userId}/screenname", operation: "SetScreenName", takes: required, answer: setScreenName},

	{method: "GET", pattern: "/v1/users/{userId}/locators", operation: "Locators", answer: listLocators},
	{method: "POST", pattern: "/v1/users/{userId}/locators", operation: "AddLocator", takes: required, answer: addLocator},
	{method: "PUT", pattern: "/v1/users/{userId}/locators", operation: "SetLocators", takes: required, answer: setLocators},
	{method: "GET", pattern: "/v1/users/{userId}/locators/{locatorId}", operation: "Locator", answer: getLocator},
	{method: "PATCH", pattern: "/v1/users/{userId}/locators/{locatorId}", operation: "SetVerification", takes: required, answer: setVerification},
	{method: "DELETE", pattern: "/v1/users/{userId}/locators/{locatorId}", operation: "RemoveLocator", answer: removeLocator},

	{method: "GET", pattern: "/v1/attribute-def/users", operation: "AttributeDefs", answer: listAttributeDefs},
	{method: "POST", pattern: "/v1/attribute-def/users", operation: "DefineAttribute", takes: required, answer: defineAttribute},
	{method: "GET", pattern: "/v1/attribute-def/users/{key}", operation: "AttributeDef", answer: getAttributeDef},
	{method: "DELETE", pattern: "/v1/attribute-def/users/{key}", operation: "DropAttributeDef", answer: dropAttributeDef},
	{method: "GET", pattern: "/v1/users/{userId}/profile", operation: "Profile", answer: getProfile},
	{method: "POST", pattern: "/v1/users/{userId}/profile", operation: "SetAttributes", takes: required, answer: setAttributes},
	{method: "GET", pattern: "/v1/users/{userId}/profile/{keys}", operation: "Attributes", answer: getAttributes},
	{method: "POST", pattern: "/v1/users/{userId}/profile/{key}", operation: "SetAttribute", takes: required, answer: setAttribute},
	{method: "DELETE", pattern: "/v1/users/{userId}/profile/{key}", operation: "RemoveAttribute", answer: removeAttribute},

	{method: "GET", pattern: "/v1/users/{userIds}/presence", operation: "Presences", answer: getPresence},
	{method: "POST", pattern: "/v1/users/{userId}/presence", operation: "SetPresence", takes: required, answer: setPresence},
	{method: "DELETE", pattern: "/v1/users/{userId}/presence", operation: "ClearPresence", answer: clearPresence},
	{method: "GET", pattern: "/v1/users/{userId}/devices", operation: "Devices", answer: getDevices},
	{method: "GET", pattern: "/v1/events", operation: "Events", answer: noEvents},

	{method: "GET", pattern: "/v1/applications/{applicationId}/accessKeys", operation: "AccessKeys", answer: listAccessKeys},
	{method: "POST", pattern: "/v1/applications/{applicationId}/accessKeys", operation: "CreateAccessKey", takes: optional, answer: createAccessKey},
	{method: "DELETE", pattern: "/v1/applications/{applicationId}/accessKeys/{accessKey}", operation: "DeleteAccessKey", answer: deleteAccessKey},
	{method: "GET", pattern: "/v1/applications/{applicationId}/signingKeys", operation: "PublicKeys", answer: listSigningKeys},
	{method: "POST", pattern: "/v1/applications/{applicationId}/signingKeys", operation: "RotateSigningKey", takes: optional, answer: rotateSigningKey},
	{method: "DELETE", pattern: "/v1/applications/{applicationId}/signingKeys/{keyId}", operation: "DropSigningKey", answer: dropSigningKey},

	{method: "GET", pattern: "/v1/users/{userId}/tokens", operation: "Tokens", answer: listTokens},
	{method: "POST", pattern: "/v1/users/{userId}/tokens", operation: "IssueToken", takes: optional, answer: issueToken},
	{method: "DELETE", pattern: "/v1/users/{userId}/tokens", operation: "RevokeAllTokens", answer: revokeAllTokens},
	{method: "PATCH", pattern: "/v1/users/{userId}/tokens/{tokenId}", operation: "ExtendToken", takes: required, answer: extendToken},
	{method: "DELETE", pattern: "/v1/users/{userId}/tokens/{tokenIds}", operation: "RevokeTokens", answer: revokeTokens},
	{method: "GET", pattern: "/v1/users/me/logout", operation: "Logout", answer: logoutLink},
	{method: "POST", pattern: "/v1/users/me/logout", operation: "Logout", answer: logout},

	{method: "GET", pattern: "/v1/.well-known/jwks.json", operation: "PublicKeys", answer: publicKeys, open: true},
	{method: "GET", pattern: "/v1/openapi.json", answer: openAPI, open: true},
}

// noRoute stands where a request matches none.
var noRoute route
