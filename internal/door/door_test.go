package door_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/door"
)

const module = "github.com/denizenhq/denizen"

// Of is nil without the root. No program can have this package without the root.
func TestDoor_IsSetByTheRootAlone(t *testing.T) {
	require.Nil(t, door.Of)
}

func TestDoor_IsForPackagesBesideTheRoot(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}: {{join .Imports " "}}`, module+"/...").Output()
	require.NoError(t, err)
	var through []string
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		name, imports, _ := strings.Cut(line, ":")
		if strings.Contains(imports+" ", " "+module+"/internal/door ") {
			through = append(through, name)
		}
	}
	require.Equal(t, []string{
		module, module + "/internal/ops", module + "/opsocket", module + "/signin", module + "/transfer",
		module + "/verify", module + "/webhook",
	}, through)
}
