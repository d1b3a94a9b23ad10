package httpadapter

// route is a method and a path, the directory's operation behind them, and the function that
// decodes the request, calls the directory and makes the response.
type route struct {
	method    string
	pattern   string
	operation string // the method of denizen.Directory
	takes     body
	serve     func(*call) (reply, error)
	open      bool // needs no credential, as it is a document that names no user
}

// body says whether a route takes a body. One that takes none leaves it unread.
type body uint8

const (
	nothing body = iota
	optional
	required
)

// routes is all that is served. A parameter in the plural, such as {userIds}, takes a list.
var routes = []route{
	{method: "POST", pattern: "/v1/users", operation: "CreateUser", takes: required, serve: createUser},
	{method: "GET", pattern: "/v1/users", operation: "Users", serve: listUsers},
	{method: "GET", pattern: "/v1/users/{userId}", operation: "User", serve: getUser},
	{method: "PATCH", pattern: "/v1/users/{userId}", operation: "BlockUser", takes: required, serve: blockUser},
	{method: "DELETE", pattern: "/v1/users/{userId}", operation: "DeleteUser", serve: deleteUser},
	{method: "POST", pattern: "/v1/users/{userId}/merge", operation: "MergeUsers", takes: required, serve: mergeUsers},
	{method: "GET", pattern: "/v1/users/{userId}/export", operation: "ExportUser", serve: exportUser},
	{method: "POST", pattern: "/v1/users/{userId}/erasure", operation: "EraseUser", serve: eraseUser},
	{method: "GET", pattern: "/v1/users/{userIds}/screenname", operation: "UsersByID", serve: getScreenNames},
	{method: "PUT", pattern: "/v1/users/{userId}/screenname", operation: "SetScreenName", takes: required, serve: setScreenName},

	{method: "GET", pattern: "/v1/users/{userId}/locators", operation: "Locators", serve: listLocators},
	{method: "POST", pattern: "/v1/users/{userId}/locators", operation: "AddLocator", takes: required, serve: addLocator},
	{method: "PUT", pattern: "/v1/users/{userId}/locators", operation: "SetLocators", takes: required, serve: setLocators},
	{method: "GET", pattern: "/v1/users/{userId}/locators/{locatorId}", operation: "Locator", serve: getLocator},
	{method: "PUT", pattern: "/v1/users/{userId}/locators/{locatorId}", operation: "ReplaceLocator", takes: required, serve: replaceLocator},
	{method: "PATCH", pattern: "/v1/users/{userId}/locators/{locatorId}", operation: "SetVerification", takes: required, serve: setVerification},
	{method: "DELETE", pattern: "/v1/users/{userId}/locators/{locatorId}", operation: "RemoveLocator", serve: removeLocator},
	{method: "POST", pattern: "/v1/users/me/locators/{locatorId}/proof", operation: "StartVerify", takes: optional, serve: startVerify},
	{method: "POST", pattern: "/v1/users/me/locators/{locatorId}/replacement", operation: "StartReplace", takes: required, serve: startReplace},
	{method: "PUT", pattern: "/v1/users/me/locators/{locatorId}/proof", operation: "FinishVerify", takes: required, serve: finishVerify},

	{method: "GET", pattern: "/v1/attribute-def/users", operation: "AttributeDefs", serve: listAttributeDefs},
	{method: "POST", pattern: "/v1/attribute-def/users", operation: "DefineAttribute", takes: required, serve: defineAttribute},
	{method: "GET", pattern: "/v1/attribute-def/users/{key}", operation: "AttributeDef", serve: getAttributeDef},
	{method: "DELETE", pattern: "/v1/attribute-def/users/{key}", operation: "DropAttributeDef", serve: dropAttributeDef},
	{method: "GET", pattern: "/v1/users/{userId}/profile", operation: "Profile", serve: getProfile},
	{method: "POST", pattern: "/v1/users/{userId}/profile", operation: "SetAttributes", takes: required, serve: setAttributes},
	{method: "GET", pattern: "/v1/users/{userId}/profile/{keys}", operation: "Attributes", serve: getAttributes},
	{method: "POST", pattern: "/v1/users/{userId}/profile/{key}", operation: "SetAttribute", takes: required, serve: setAttribute},
	{method: "DELETE", pattern: "/v1/users/{userId}/profile/{key}", operation: "RemoveAttribute", serve: removeAttribute},

	{method: "GET", pattern: "/v1/users/{userIds}/presence", operation: "Presences", serve: getPresence},
	{method: "POST", pattern: "/v1/users/{userId}/presence", operation: "SetPresence", takes: required, serve: setPresence},
	{method: "DELETE", pattern: "/v1/users/{userId}/presence", operation: "ClearPresence", serve: clearPresence},
	{method: "GET", pattern: "/v1/users/{userId}/devices", operation: "Devices", serve: getDevices},
	{method: "PATCH", pattern: "/v1/users/{userId}/presence-visibility", operation: "SetPresenceHidden", takes: required, serve: setPresenceHidden},
	{method: "GET", pattern: "/v1/events", operation: "Events", serve: getEvents},

	{method: "GET", pattern: "/v1/applications/{applicationId}/accessKeys", operation: "AccessKeys", serve: listAccessKeys},
	{method: "POST", pattern: "/v1/applications/{applicationId}/accessKeys", operation: "CreateAccessKey", takes: optional, serve: createAccessKey},
	{method: "DELETE", pattern: "/v1/applications/{applicationId}/accessKeys/{accessKey}", operation: "DeleteAccessKey", serve: deleteAccessKey},
	{method: "GET", pattern: "/v1/applications/{applicationId}/signingKeys", operation: "PublicKeys", serve: listSigningKeys},
	{method: "POST", pattern: "/v1/applications/{applicationId}/signingKeys", operation: "RotateSigningKey", takes: optional, serve: rotateSigningKey},
	{method: "DELETE", pattern: "/v1/applications/{applicationId}/signingKeys/{keyId}", operation: "DropSigningKey", serve: dropSigningKey},

	{method: "GET", pattern: "/v1/users/{userId}/tokens", operation: "Tokens", serve: listTokens},
	{method: "POST", pattern: "/v1/users/{userId}/tokens", operation: "IssueToken", takes: optional, serve: issueToken},
	{method: "DELETE", pattern: "/v1/users/{userId}/tokens", operation: "RevokeAllTokens", serve: revokeAllTokens},
	{method: "PATCH", pattern: "/v1/users/{userId}/tokens/{tokenId}", operation: "ExtendToken", takes: required, serve: extendToken},
	{method: "DELETE", pattern: "/v1/users/{userId}/tokens/{tokenIds}", operation: "RevokeTokens", serve: revokeTokens},
	{method: "GET", pattern: "/v1/users/me/logout", operation: "Logout", serve: logoutLink},
	{method: "POST", pattern: "/v1/users/me/logout", operation: "Logout", serve: logout},

	{method: "GET", pattern: "/v1/.well-known/jwks.json", operation: "PublicKeys", serve: publicKeys, open: true},
	{method: "GET", pattern: "/v1/openapi.json", serve: openAPI, open: true},
}

// noRoute is the route of a request that matches none.
var noRoute route
