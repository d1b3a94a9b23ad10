package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// row is what a line of the raw output is about.
type row struct {
	operation  string
	users      int // 0: does not matter
	goroutines int
	side       string
}

// turn is the result of a turn: the number of operations, and the values of each unit.
type turn struct {
	n      uint64
	values map[string]float64
}

// peer reports whether a side is neither ours nor a floor.
func peer(side string) bool {
	return !strings.HasPrefix(side, "Denizen") && !strings.HasPrefix(side, "floor")
}

// write writes a turn as a line of Go's benchmark format, which benchstat reads:
// https://go.dev/design/14313-benchmark-format.
func (b *bench) write(r row, t turn) error {
	line := "Benchmark" + r.operation
	if r.users > 0 {
		line += fmt.Sprintf("/users=%d", r.users)
	}
	if r.goroutines > 0 {
		line += fmt.Sprintf("/goroutines=%d", r.goroutines)
	}
	line += fmt.Sprintf("/by=%s-%d\t%8d", strings.ReplaceAll(r.side, " ", "_"), runtime.GOMAXPROCS(0), max(t.n, 1))
	for _, unit := range slices.Sorted(maps.Keys(t.values)) {
		line += "\t" + strconv.FormatFloat(t.values[unit], 'g', 6, 64) + " " + unit
	}
	_, err := fmt.Fprintln(b.out, line)
	return err
}

// results is a parsed raw output.
type results struct {
	config map[string]string
	turns  map[row][]map[string]float64
	rows   []row // in the order of their first occurrence
}

// parse parses a raw output.
func parse(r io.Reader) (*results, error) {
	rs := &results{config: map[string]string{}, turns: map[row][]map[string]float64{}}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, is := strings.CutPrefix(lines.Text(), "Benchmark")
		if !is {
			if key, value, is := strings.Cut(lines.Text(), ": "); is {
				rs.config[key] = value
			}
			continue
		}
		fields := strings.Fields(name)
		row, err := parseRow(fields[0])
		if err != nil {
			return nil, err
		}
		values := map[string]float64{}
		for i := 2; i+1 < len(fields); i += 2 {
			if values[fields[i+1]], err = strconv.ParseFloat(fields[i], 64); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		if rs.turns[row] == nil {
			rs.rows = append(rs.rows, row)
		}
		rs.turns[row] = append(rs.turns[row], values)
	}
	return rs, lines.Err()
}

func parseRow(name string) (r row, err error) {
	name, side, _ := strings.Cut(name[:strings.LastIndexByte(name, '-')], "/by=")
	r.side = strings.ReplaceAll(side, "_", " ")
	parts := strings.Split(name, "/")
	for i, part := range parts {
		key, value, is := strings.Cut(part, "=")
		if !is {
			r.operation = strings.Join(parts[:i+1], "/")
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			return row{}, fmt.Errorf("%s: %w", name, err)
		}
		switch key {
		case "users":
			r.users = n
		case "goroutines":
			r.goroutines = n
		default:
			return row{}, fmt.Errorf("%s: what is %s?", name, key)
		}
	}
	return r, nil
}

// figure is the median of the rounds, and their spread.
type figure struct {
	median, least, most float64
}

func figureOf(values []float64) figure {
	slices.Sort(values)
	return figure{values[len(values)/2], values[0], values[len(values)-1]}
}

// of returns the figure of a unit of a row. It reports false if that was not measured.
func (rs *results) of(r row, unit string) (figure, bool) {
	var values []float64
	for _, t := range rs.turns[r] {
		if v, is := t[unit]; is {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return figure{}, false
	}
	return figureOf(values), true
}

// ratio returns the times of a divided by those of b, round by round, because those of one round
// were measured right after each other.
func (rs *results) ratio(a, b row) (figure, bool) {
	as, bs := rs.turns[a], rs.turns[b]
	var ratios []float64
	for i := range min(len(as), len(bs)) {
		x, y := as[i]["ns/op"], bs[i]["ns/op"]
		if x > 0 && y > 0 {
			ratios = append(ratios, x/y)
		}
	}
	if len(ratios) == 0 {
		return figure{}, false
	}
	return figureOf(ratios), true
}
