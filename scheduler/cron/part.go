package cron

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"

	"github.com/perdure/perdure/jobs"
)

// ReadPart reads a part of a timetable that is an object of its own, its replay or
// its catch_up, from JSON. A member that it does not know is refused: left out of a
// filter, it would select more than was meant. Errors match [jobs.ErrInvalid] and say
// in words of JSON what is wrong.
func ReadPart(field, text string, to any) error {
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(to)
	if _, end := decoder.Token(); err == nil && end != io.EOF {
		err = errors.New("there is more after it")
	}
	if err == nil && strings.TrimSpace(text) == "null" {
		err = errors.New("null is none")
	}
	var other *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &other) && other.Field != "":
		bound := map[reflect.Kind]string{reflect.Int: "a whole number", reflect.Bool: "true or false"}[other.Type.Kind()]
		return &jobs.InvalidError{Field: field + "." + other.Field, Value: other.Value, Bound: cmp.Or(bound, "a text")}
	case errors.As(err, &other):
		return &jobs.InvalidError{Field: field, Value: other.Value, Bound: "a JSON object"}
	}
	return &jobs.InvalidError{Field: field, Value: text, Bound: "a JSON object of its fields: " + strings.TrimPrefix(err.Error(), "json: ")}
}
