package cron

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
)

func TestReadFile(t *testing.T) {
	t.Parallel()
	list, err := ReadFile("perdure.yaml", []byte(`
schedules:
  - name: nightly
    when: 30 2 * * *
    zone: Europe/Berlin
    kind: report
    queue: reports
    tenant: acme
    payload: {days: 1, to: [a, b]}
    skipped: skip
    repeated: twice
    jitter: 5m
    overlap: queue
    catch_up: {most: 3, oldest: 48h}
  - name: retry-mail
    when: "@every 1h"
    replay: {kind: mail, class: timeout, newer: 24h, rate: 5, most: 100, from_start: true, no_canary: true, reason: it recovers}
`))
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v %v", list, err)
	}
	a, b := list[0], list[1]
	if a.When != "30 2 * * *" || a.Zone != "Europe/Berlin" || string(a.Payload) != `{"days":1,"to":["a","b"]}` || a.Jitter != jobs.Span(5*time.Minute) ||
		a.Overlap != jobs.OverlapQueue || a.CatchUp.Most != 3 || a.CatchUp.Oldest != jobs.Span(48*time.Hour) || a.Skipped != "skip" || a.Queue != "reports" || a.Tenant != "acme" {
		t.Errorf("%+v", a)
	}
	if b.Kind != "" || b.Replay.Class != jobs.ClassTimeout || b.Replay.Rate != 5 || b.Replay.Newer != jobs.Span(24*time.Hour) || b.Replay.Reason != "it recovers" || !b.Replay.FromStart || !b.Replay.NoCanary {
		t.Errorf("%+v %+v", b, b.Replay)
	}
	for _, empty := range []string{"", "# nothing\n", "schedules: []"} {
		if list, err := ReadFile("perdure.yaml", []byte(empty)); err != nil || len(list) > 0 {
			t.Errorf("%q: %+v %v", empty, list, err)
		}
	}
}

// TestPayloadIsKept: a payload says in JSON what it says in YAML.
func TestPayloadIsKept(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{a: "2026-01-01", b: '0123', c: yes, d: ~, e: 2026-01}`:         `{"a":"2026-01-01","b":"0123","c":"yes","d":null,"e":"2026-01"}`,
		`[0, -7, 18446744073709551615, 1.10, 1e3, .5, -0.25, 0.0, 1e21]`: `[0,-7,18446744073709551615,1.1,1000,0.5,-0.25,0,1e+21]`,
		`{<<: &base {n: 9007199254740993}, l: [*base, *base]}`:           `{"l":[{"n":9007199254740993},{"n":9007199254740993}],"n":9007199254740993}`,
	} {
		list, err := ReadFile("f", []byte("---\nschedules:\n  - name: s\n    when: '@daily'\n    kind: work\n    payload: "+text+"\n...\n"))
		if err != nil || string(list[0].Payload) != want {
			t.Errorf("%s: %v\n%s\nwant %s", text, err, list[0].Payload, want)
		}
	}
}

func TestReadFileRefuses(t *testing.T) {
	t.Parallel()
	one := func(more string) string {
		return "schedules:\n  - name: s\n    when: '@daily'\n    kind: work\n" + more
	}
	for text, want := range map[string]string{
		"schedules: [":                 "YAML",
		"schedule: []":                 `perdure.yaml line 1: field "schedule": must be one of schedules`,
		"- a":                          `line 1: the file "a list": must be an object`,
		"schedules: 7":                 `line 1: schedules "7": must be a list`,
		one("    whn: x"):              `line 5: field "whn": must be one of catch_up, jitter, kind`,
		one("    kind: other"):         `line 5: field "kind": must be given once`,
		one("    zone: Mars"):          `zone "Mars": must be an IANA`,
		one("    jitter: soon"):        `line 5: jitter "soon": must be a text such as`,
		one("    jitter: 48h"):         "jitter 48h0m0s: must be from 0s to 24h0m0s",
		one("    queue: [a]"):          `line 5: queue "a list": must be a text`,
		one("    catch_up: {most: x}"): `line 5: catch_up.most "x": must be a whole number`,
		"schedules:\n  - name: s\n    when: '@daily'\n    replay: {no_canary: yes}": `line 4: replay.no_canary "yes": must be true or false`,
		one("    catch_up: {mst: 1}"):                          `line 5: field "mst": must be one of most, oldest`,
		one("    payload: {? [a] : b}"):                        `line 5: payload "an object": must be what JSON can say`,
		one("    replay: {class: timeout}"):                    "replay \"given\": must be alone",
		one("  - name: s\n    when: '@daily'\n    kind: work"): `line 5: name s "an object": must be given once; line 2 has it too`,
		one("    payload: {from: [2026-01-01]}"):               `line 5: payload "2026-01-01": must be in quotes`,
		one("    payload: 0123"):                               `line 5: payload "0123": must be a decimal number`,
		one("    payload: {n: 0x10}"):                          `line 5: payload "0x10": must be a decimal number`,
		one("    payload: {n: 12345678901234567890123}"):       `payload "12345678901234567890123": must be a decimal number`,
		one("    payload: {n: 0.1234567890123456789}"):         `payload "0.1234567890123456789": must be a decimal number`,
		one("    payload: [&a 017, *a]"):                       `payload "017": must be a decimal number`,
		one("    catch_up: {most: 010}"):                       `catch_up.most "010": must be a whole number`,
		one("---\nschedules: []"):                              `"another document after ---": must be one document`,
		one("--- ["):                                           `"another document after ---"`,
		"schedules:\n  - when: '@daily'":                       "line 2: schedule \"\": name",
		strings.Repeat("#", 5<<20):                             "at most 4194304 bytes",
	} {
		_, err := ReadFile("perdure.yaml", []byte(text))
		if !errors.Is(err, jobs.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v\nwant %s", text, err, want)
		}
	}
}

func FuzzReadFile(f *testing.F) {
	f.Add("schedules:\n  - name: s\n    when: '* * * * *'\n    kind: work\n    payload: &a [*a]")
	f.Add("a: &a [x, x]\nschedules: [*a, *a]")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ReadFile("f", []byte(text))
		if err != nil && !errors.Is(err, jobs.ErrInvalid) {
			t.Fatal(err)
		}
		for _, one := range list {
			if _, bad := Parse(one); err == nil && bad != nil {
				t.Fatal(bad)
			}
		}
	})
}
