package denizen

import "context"

// AccessRow is a row of the access table by its name, with its verdicts in words.
type AccessRow struct {
	Name  string
	Cells [4]string // anonymous, other, self, system
}

// AccessTable returns the access table for the tests that hold it to the specification.
func AccessTable() []AccessRow {
	names := [numOps]string{
		opActAs:           "act as a user",
		opResolveUser:     "resolve a reference",
		opCreateUser:      "create a user",
		opReadUser:        "read a user",
		opListUsers:       "list and count users",
		opFindUsers:       "find users by locator",
		opSetScreenName:   "set the screen name",
		opBlockUser:       "block or unblock a user",
		opDeleteUser:      "delete a user",
		opMergeUsers:      "merge two users",
		opEraseUser:       "erase a user",
		opExportUser:      "export a user",
		opReadLocators:    "read locators",
		opAddLocator:      "add a locator",
		opRemoveLocator:   "remove a locator",
		opSetLocators:     "set all locators",
		opSetVerification: "vouch for a locator, or reveal it",
		opMoveLocator:     "move a locator to another user",
		opProve:           "prove a locator",
		opCancelUndo:      "cancel an undo",
		opRekeyLocators:   "bring locators to another rule",
		opDefine:          "define an attribute or drop a definition",
		opCheck:           "ask whether it still stands",
		opReadDefinitions: "read definitions",
		opReadProfile:     "read the profile",
		opWriteProfile:    "write the profile",
		opReadPresence:    "read presence",
		opReadDevices:     "list devices",
		opWritePresence:   "set or clear presence",
		opWatchPresence:   "watch presences, each as it may be read",
		opReadActivity:    "read the last activity",
		opIssueToken:      "issue a token",
		opReadTokens:      "list tokens",
		opExtendToken:     "extend a token",
		opRevokeToken:     "revoke tokens",
		opLogout:          "log out",
		opAccessKeys:      "manage access keys",
		opSigningKeys:     "rotate or drop signing keys",
		opFeed:            "follow and trim the feed",
		opHealth:          "ask how the directory fares",
		opOperate:         "back up, verify and rekey",
	}
	words := map[verdict]string{deny: "no", peer: "if MaySee", allow: "yes"}
	table := make([]AccessRow, numOps)
	for op := range table {
		table[op].Name = names[op]
		for role := range numRoles {
			table[op].Cells[role] = words[access[op][role]]
		}
	}
	return table
}

// Flush stores what is kept in memory, as Close does.
func Flush(ctx context.Context, d *Directory) error { return d.flush(ctx) }
