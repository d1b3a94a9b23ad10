package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// elements yields the elements of an array, which is a member of each of one or more JSON objects
// in a row. It has one element in memory at a time.
func elements(r io.Reader, member string, yield func(*json.Decoder) error) error {
	d := json.NewDecoder(r)
	for {
		open, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil || open != json.Delim('{') {
			return cmpErr(err, "the file is no JSON object")
		}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return err
			}
			if name != member {
				var skipped json.RawMessage
				if err := d.Decode(&skipped); err != nil {
					return err
				}
				continue
			}
			if open, err := d.Token(); err != nil || open != json.Delim('[') {
				return cmpErr(err, member+" is no list")
			}
			for d.More() {
				if err := yield(d); err != nil {
					return err
				}
			}
			if _, err := d.Token(); err != nil {
				return err
			}
		}
		if _, err := d.Token(); err != nil {
			return err
		}
	}
}

func cmpErr(err error, otherwise string) error {
	if err == nil {
		err = errors.New(otherwise)
	}
	return err
}

// decode reads one element. An element of the wrong type is a bad row. What is not JSON is an error
// of the whole file.
func decode(d *json.Decoder, into any) (bad error, err error) {
	err = d.Decode(into)
	if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return badJSON(kind), nil
	}
	return nil, err
}

func badJSON(e *json.UnmarshalTypeError) error {
	return bad(e.Field, fmt.Sprintf("is a %s", e.Value))
}
