package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/ops"
	"github.com/denizenhq/denizen/internal/peer"
)

var update = flag.Bool("update", false, "write what its commands print into OPERATING.md")

const operating = "../../OPERATING.md"

// block is a fenced block of the page, and what the comment before it says of it.
type block struct {
	about, language string
	lines           []string
}

// said is a command of a block, and what it prints.
type said struct {
	command string
	output  string
}

func (b *block) commands() (list []said) {
	for _, line := range b.lines {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			list = append(list, said{command: command})
		} else if len(list) > 0 {
			list[len(list)-1].output += line + "\n"
		}
	}
	return list
}

// blocks returns the parts of a page: prose, which is a block without a language, and blocks.
func blocks(page string) (list []*block) {
	list = []*block{{}}
	about := regexp.MustCompile(`^<!-- (.*) -->$`)
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		last := list[len(list)-1]
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && last.language == "":
			b := &block{language: fence}
			if n := len(last.lines); n > 0 {
				if m := about.FindStringSubmatch(last.lines[n-1]); m != nil {
					b.about = m[1]
				}
			}
			if b.language == "" {
				b.language = "text"
			}
			list = append(list, b)
		case isFence:
			list = append(list, &block{})
		default:
			last.lines = append(last.lines, line)
		}
	}
	return list
}

// What differs each time: ids, keys and cursors, whose later uses are those of the first; and times,
// sizes, places in the feed and processes.
var (
	names   = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[A-Z2-7]{26}\b|[A-Za-z0-9+/]{43}=|[A-Za-z0-9_-]{43}|[A-Za-z0-9_-]{32}|\b[0-9a-f]{16}\b`)
	figures = []*regexp.Regexp{
		regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?`),
		regexp.MustCompile(`\d{8}T\d{6}Z`),
		regexp.MustCompile(`\d+(\.\d)? (B|KiB|MiB)\b`),
		regexp.MustCompile(`(?m)^ +\d+  `),
		regexp.MustCompile(`feed {10}\d+ to \d+|at \d+$|at \d+\n|page \d+|"(first|last|head|seq|bytes|free|read|page)":"?\w+"?`),
		regexp.MustCompile(`commits {7}\d+`),
		regexp.MustCompile(`process \d+ \S+`),
	}
)

func normal(text string) string {
	for _, f := range figures {
		text = f.ReplaceAllString(text, "#")
	}
	return names.ReplaceAllString(text, "@")
}

func TestOperating_CommandsPrintWhatThePageSays(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil || !peer.Supported {
		t.Skip("no shell and sockets here")
	}
	b, err := os.ReadFile(operating)
	require.NoError(t, err)
	bin, dir := built(t), long.Dir(t)
	dsn, schema := os.Getenv("DENIZEN_POSTGRES"), "denizen"
	if dsn != "" {
		schema = newSchema(t, dsn)
	}
	known := map[string]string{} // names of the page, and those of this run
	now := func(text string) string {
		return names.ReplaceAllStringFunc(text, func(name string) string {
			if here, ok := known[name]; ok {
				return here
			}
			return name
		})
	}
	end := func() {}
	defer func() { end() }()
	commands := 0
	page := blocks(string(b))
	for _, part := range page {
		switch part.about {
		case "the service runs":
			_, end = served(t, file(filepath.Join(dir, "people.db")))
		case "the service runs without a socket":
			d := file(filepath.Join(dir, "people.db")).open(t)
			end = func() { require.NoError(t, d.Close()) }
		case "the disk fails":
			damage(t, filepath.Join(dir, "people.db"), "Grace")
		}
		if name, ok := strings.CutPrefix(part.about, "file "); ok {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(part.lines, "\n")+"\n"), 0o600))
		}
		env := []string{"PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH"), "USER=ada"}
		if part.about == "database" {
			if dsn == "" {
				continue
			}
			env = append(env, "DENIZEN_DSN="+dsn, "DENIZEN_TO_DSN="+dsn)
		}
		if part.language != "console" {
			continue
		}
		var lines []string
		code := "0"
		for _, s := range part.commands() {
			commands++
			lines = append(lines, "$ "+now(s.command))
			run := strings.ReplaceAll(now(s.command), "denizen copy", "denizen copy -to-schema "+schema)
			if part.about == "database" {
				run = strings.ReplaceAll(run, "denizen stat", "denizen stat -schema "+schema)
			}
			cmd := exec.Command("sh", "-c", "umask 077; (exit "+code+"); "+run+"\ncode=$?; echo >&3; echo $code >&3")
			r, w, err := os.Pipe()
			require.NoError(t, err)
			cmd.Dir, cmd.Env, cmd.ExtraFiles = dir, env, []*os.File{w}
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.NoError(t, w.Close())
			status := make([]byte, 8)
			n, err := r.Read(status)
			require.NoError(t, err)
			code = strings.TrimSpace(string(status[:n]))
			require.NoError(t, r.Close())
			printed := strings.ReplaceAll(string(out), schema, "denizen")
			if *update {
				printed := regexp.MustCompile(`process \d+ \S+`).ReplaceAllString(printed, "process 4711 service")
				for line := range strings.Lines(printed) {
					lines = append(lines, strings.TrimRight(line, "\n"))
				}
			} else {
				require.Equal(t, normal(s.output), normal(printed), "%s", s.command)
			}
			were, are := names.FindAllString(s.output, -1), names.FindAllString(printed, -1)
			for i := range min(len(were), len(are)) {
				known[were[i]] = are[i]
			}
		}
		part.lines = lines
		if strings.HasPrefix(part.about, "the service runs") {
			end()
			end = func() {}
		}
	}
	require.Greater(t, commands, 20)
	if *update {
		var text strings.Builder
		for _, part := range page {
			switch part.language {
			case "":
			case "text":
				text.WriteString("```\n")
			default:
				text.WriteString("```" + part.language + "\n")
			}
			for _, line := range part.lines {
				text.WriteString(line + "\n")
			}
			if part.language != "" {
				text.WriteString("```\n")
			}
		}
		require.NoError(t, os.WriteFile(operating, []byte(text.String()), 0o644))
	}
}

func TestOperating_NamesEachMemberOfTheJSON(t *testing.T) {
	b, err := os.ReadFile(operating)
	require.NoError(t, err)
	_, text, found := strings.Cut(string(b), "\n## JSON\n")
	require.True(t, found)
	text, _, _ = strings.Cut(text, "\n## ")
	var parts []string // one a line of the list
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "- ") {
			parts = append(parts, "")
		}
		if len(parts) > 0 {
			parts[len(parts)-1] += line
		}
	}
	for _, of := range [][]any{
		{ops.Figures{}, ops.Consumer{}, ops.File{}, ops.Commits{}, ops.Cache{}},
		{ops.User{}},
		{ops.Whole{}, ops.Locator{}, ops.Attribute{}, ops.Device{}},
		{ops.Token{}},
		{ops.Key{}},
		{ops.Event{}},
		{ops.Damage{}},
		{done{}},
		{backup{}, restored{}},
		{ops.Compacted{}, ops.File{}},
		{lost{}, salvaged{}},
		{copied{}},
		{row{}, imported{}},
		{exported{}},
	} {
		part := parts[0]
		parts = parts[1:]
		for _, v := range of {
			for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if name != "" && len(f.Index) == 1 {
					require.Contains(t, part, "`"+name+"`")
				}
			}
		}
	}
	require.Empty(t, parts)
}

func TestOperating_NamesEachCommand(t *testing.T) {
	b, err := os.ReadFile(operating)
	require.NoError(t, err)
	for _, c := range all() {
		require.Contains(t, string(b), "denizen "+c.name+" ", "%s", c.name)
	}
}
