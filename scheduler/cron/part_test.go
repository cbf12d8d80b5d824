package cron

import (
	"errors"
	"strings"
	"testing"

	"github.com/perdure/perdure/jobs"
)

func TestReadPart(t *testing.T) {
	t.Parallel()
	var f jobs.DeadFilter
	if err := ReadPart("replay", `{"class":"timeout","no_canary":true,"newer":"24h"}`, &f); err != nil || f.Class != jobs.ClassTimeout || !f.NoCanary {
		t.Errorf("%+v %v", f, err)
	}
	for text, want := range map[string]string{
		`{"clas":"timeout"}`:  `replay "{\"clas\":\"timeout\"}": must be a JSON object of its fields: unknown field "clas"`,
		`{"rate":0.5}`:        `replay.rate "number 0.5": must be a whole number`,
		`{"text":7}`:          `replay.text "number": must be a text`,
		`{"from_start":"no"}`: `replay.from_start "string": must be true or false`,
		`{"newer":"1d"}`:      `duration "1d": must be a text such as`,
		`{"newer":1}`:         `replay.newer "number": must be a text`,
		`[]`:                  `replay "array": must be a JSON object`,
		`{} {}`:               `there is more after it`,
		`{}]`:                 `there is more after it`,
		`{} x`:                `there is more after it`,
		` null `:              `null is none`,
		`{`:                   `a JSON object of its fields: unexpected EOF`,
	} {
		err := ReadPart("replay", text, &jobs.DeadFilter{})
		if !errors.Is(err, jobs.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if err := ReadPart("catch_up", `{"mots":3}`, &jobs.CatchUp{}); err == nil || !strings.Contains(err.Error(), `unknown field "mots"`) {
		t.Errorf("%v", err)
	}
}
