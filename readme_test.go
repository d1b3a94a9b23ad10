package denizen_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// trimmed returns the lines of source without the space around them, and without empty
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

func textOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// filesNamed returns the text of the files below the root whose names end so, by their paths.
// Directories whose names begin with a dot are left out.
func filesNamed(t *testing.T, suffix string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, suffix):
			texts[path] = textOf(t, path)
		}
		return nil
	}))
	require.NotEmpty(t, texts)
	return texts
}

// exampleBody returns the body of an example of the root, without its last brace and its output.
func exampleBody(t *testing.T, name string) string {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	for _, file := range files {
		if _, body, found := strings.Cut(textOf(t, file), "\nfunc "+name+"() {\n"); found {
			body, _, _ = strings.Cut(body, "\n}\n")
			body, _, _ = strings.Cut(body, "\t// Output:")
			return body
		}
	}
	require.Fail(t, "no such example", name)
	return ""
}

// goBlocks returns the Go snippets of a text in Markdown.
func goBlocks(text string) []string {
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

func TestREADME_IsAtMostTwelveKilobytes(t *testing.T) {
	require.LessOrEqual(t, len(textOf(t, "README.md")), 12<<10, "move it to docs, and leave a link")
}

func TestREADME_ProgramIsThePackagesExample(t *testing.T) {
	program := goBlocks(textOf(t, "README.md"))[0]
	_, main, found := strings.Cut(program, "\nfunc main() {\n")
	require.True(t, found)
	main, _, _ = strings.Cut(main, "\n}\n")
	require.Equal(t, trimmed(exampleBody(t, "Example")), trimmed(main))
}

func TestREADME_ProgramPrintsWhatIsSaid(t *testing.T) {
	text := textOf(t, "README.md")
	_, said, found := strings.Cut(text, "\n```\n\n```\n") // after its commands
	require.True(t, found)
	said, _, _ = strings.Cut(said, "```\n")
	file := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(file, []byte(goBlocks(text)[0]), 0o600))
	vetted, err := exec.Command("go", "vet", file).CombinedOutput()
	require.NoError(t, err, "%s", vetted)
	printed, err := exec.Command("go", "run", file).CombinedOutput()
	require.NoError(t, err, "%s", printed)
	require.Equal(t, said, string(printed))
}

func TestREADME_MarkdownSnippetsStandInGoFiles(t *testing.T) {
	var sources []string
	for _, source := range filesNamed(t, ".go") {
		sources = append(sources, trimmed(source))
	}
	for path, text := range filesNamed(t, ".md") {
		blocks := goBlocks(text)
		if path == "README.md" {
			blocks = blocks[1:] // the program is complete by itself
		}
		for _, block := range blocks {
			found := false
			for _, source := range sources {
				found = found || strings.Contains(source, trimmed(block))
			}
			require.True(t, found, "%s: no Go file holds\n%s", path, block)
		}
	}
}

// anchors returns the anchors of the headings of a page, as GitHub makes them: in lower case, with
// dashes for spaces, without all that is neither letter, number, dash nor underscore, and numbered
// from the second one of a name on. prose is the page without code blocks.
func anchors(prose string) map[string]bool {
	made := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#{1,6} +(.*)$`).FindAllStringSubmatch(prose, -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(m[1]))
		anchor := name
		for n := 1; made[anchor]; n++ {
			anchor = name + "-" + string(rune('0'+n))
		}
		made[anchor] = true
	}
	return made
}

// brokenLinks returns the relative links of pages, by their paths, that lead to no file, or to no
// heading of one of the pages.
func brokenLinks(pages map[string]string, isFile func(path string) bool) (broken []string) {
	prose := map[string]string{}
	for path, text := range pages {
		text = regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
		prose[path] = text
	}
	inline := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	reference := regexp.MustCompile(`(?m)^\[[^\]]+\]: +(\S+)`)
	for path, text := range prose {
		text = regexp.MustCompile("`[^`\n]*`").ReplaceAllString(text, "")
		for _, m := range append(inline.FindAllStringSubmatch(text, -1), reference.FindAllStringSubmatch(text, -1)...) {
			if strings.Contains(m[1], ":") { // of another site
				continue
			}
			file, anchor, hasAnchor := strings.Cut(m[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), filepath.FromSlash(file))
			}
			if !isFile(target) || hasAnchor && !anchors(prose[target])[anchor] {
				broken = append(broken, path+": "+m[1])
			}
		}
	}
	return broken
}

func TestREADME_ThePageOfNamesHasTheOutputOfItsExample(t *testing.T) {
	_, said, found := strings.Cut(textOf(t, "docs/names.md"), "\nprints\n\n```\n")
	require.True(t, found)
	said, _, _ = strings.Cut(said, "```\n")
	_, output, found := strings.Cut(textOf(t, "locator/username/example_test.go"), "\t// Output:\n")
	require.True(t, found)
	output, _, _ = strings.Cut(output, "}\n")
	require.Equal(t, regexp.MustCompile(`(?m)^\t// ?`).ReplaceAllString(output, ""), said)
}

func TestREADME_MarkdownLinksLeadSomewhere(t *testing.T) {
	pages := filesNamed(t, ".md")
	require.Contains(t, pages, "README.md")
	require.Contains(t, pages, filepath.Join("docs", "promises.md"))
	require.Empty(t, brokenLinks(pages, func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.Mode().IsRegular()
	}))
}

func TestREADME_MarkdownLinksThatLeadNowhereAreFound(t *testing.T) {
	const page = "# One (`two`), three\n\n# Twice\n\n# Twice\n\n```\n# no heading\n[x](no-link.md)\n```\n\n"
	for link, isBroken := range map[string]bool{
		"[x](there.md)":                   false,
		"[x](#one-two-three)":             false,
		"[x](#twice-1)":                   false,
		"[x](docs/page.md#one-two-three)": false,
		"[`x`](gone.go)":                  true,
		"[x](docs/gone.md#one-two-three)": true,
		"[x](#twice-2)":                   true,
		"[x](#no-heading)":                true,
		"[x](docs/page.md#two)":           true,
		"[x](there.md#any)":               true,
		"`[x](gone.go)`":                  false,
		"[x](https://example.org/gone)":   false,
		"\n[x]: gone.go":                  true,
	} {
		t.Run(link, func(t *testing.T) {
			pages := map[string]string{"page.md": page + link, filepath.Join("docs", "page.md"): page}
			isFile := func(path string) bool { return pages[path] != "" || path == "there.md" }
			require.Equal(t, isBroken, len(brokenLinks(pages, isFile)) > 0)
		})
	}
}

func TestREADME_TheWalkOfThePackageCommentIsAnExample(t *testing.T) {
	var walk strings.Builder
	for line := range strings.Lines(textOf(t, "doc.go")) {
		if code, isCode := strings.CutPrefix(line, "//\t"); isCode {
			walk.WriteString(code)
		}
	}
	// The comment leaves the errors out.
	example := trimmed(exampleBody(t, "Example_walk"))
	const handled = "if err != nil {\nlog.Fatal(err)\n}\n"
	require.Contains(t, example, handled)
	require.Equal(t, strings.ReplaceAll(example, handled, ""), trimmed(walk.String()))
}
