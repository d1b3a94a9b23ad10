package denizen_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// trimmed answers the lines of source without the space around them, and without empty
// ones, each ended by a line break.
func trimmed(source string) string {
	var b strings.Builder
	for line := range strings.Lines(source) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// bodyOf answers the body of a function without arguments, without its last brace and
// the output of an example.
func bodyOf(t *testing.T, source, name string) string {
	t.Helper()
	_, body, found := strings.Cut(source, "\nfunc "+name+"() {\n")
	require.True(t, found, name)
	body, _, found = strings.Cut(body, "\n}\n")
	require.True(t, found, name)
	body, _, _ = strings.Cut(body, "\t// Output:")
	return body
}

func textOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// goBlocks answers the Go snippets of the README.
func goBlocks(t *testing.T) []string {
	t.Helper()
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)\n```go\n(.*?)```\n").FindAllStringSubmatch(textOf(t, "README.md"), -1) {
		blocks = append(blocks, m[1])
	}
	require.NotEmpty(t, blocks)
	return blocks
}

func TestTheProgramOfTheREADMEIsThePackagesExample(t *testing.T) {
	program := goBlocks(t)[0]
	example := bodyOf(t, textOf(t, "example_test.go"), "Example")
	require.Equal(t, trimmed(example), trimmed(bodyOf(t, program, "main")))
}

func TestTheProgramOfTheREADMECompiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(file, []byte(goBlocks(t)[0]), 0o600))
	said, err := exec.Command("go", "vet", file).CombinedOutput()
	require.NoError(t, err, "%s", said)
}

func TestEverySnippetOfTheREADMEStandsInAGoFile(t *testing.T) {
	var sources []string
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			sources = append(sources, trimmed(textOf(t, path)))
		}
		return err
	}))
	for _, block := range goBlocks(t)[1:] {
		found := false
		for _, source := range sources {
			found = found || strings.Contains(source, trimmed(block))
		}
		require.True(t, found, "no Go file holds\n%s", block)
	}
}

func TestEveryFileTheREADMEPointsToIsThere(t *testing.T) {
	links := regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(textOf(t, "README.md"), -1)
	require.NotEmpty(t, links)
	for _, link := range links {
		if !strings.HasPrefix(link[1], "https://") {
			require.FileExists(t, link[1])
		}
	}
}

func TestTheWalkOfThePackageCommentIsAnExample(t *testing.T) {
	var walk strings.Builder
	for line := range strings.Lines(textOf(t, "doc.go")) {
		if code, isCode := strings.CutPrefix(line, "//\t"); isCode {
			walk.WriteString(code)
		}
	}
	// The comment leaves the errors out.
	example := trimmed(bodyOf(t, textOf(t, "example_test.go"), "Example_walk"))
	const handled = "if err != nil {\nlog.Fatal(err)\n}\n"
	require.Contains(t, example, handled)
	require.Equal(t, strings.ReplaceAll(example, handled, ""), trimmed(walk.String()))
}
