package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// elements goes through the elements of the array that is the member of one or more JSON objects,
// one behind the other. It holds one element at a time.
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

// decode reads one element. One that is of another kind than expected is a bad row; what is no JSON
// is the end of the file.
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
