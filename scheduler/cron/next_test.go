package cron

import (
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/perdure/perdure/jobs"
)

//go:embed testdata/zones.txt
var zoneNames string // of the IANA database that Go brings along

func parse(t testing.TB, table jobs.Timetable) *Times {
	t.Helper()
	if table.Name == "" {
		table.Name = "s"
	}
	if table.Kind == "" {
		table.Kind = "work"
	}
	times, err := Parse(table)
	if err != nil {
		t.Fatal(err)
	}
	return times
}

// transitions are the changes of a zone's clocks from 2020 to 2035.
func transitions(zone *time.Location) (all []time.Time) {
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for {
		_, end := at.In(zone).ZoneBounds()
		if end.IsZero() || end.UTC().Year() > 2035 {
			return all
		}
		all = append(all, end.UTC())
		at = end
	}
}

// wall is what a clock shows, to the minute.
type wall struct{ day, minute int }

func wallOf(at time.Time) wall {
	return wall{at.Year()*10_000 + int(at.Month())*100 + at.Day(), at.Hour()*60 + at.Minute()}
}

func (w wall) before(v wall) bool { return w.day < v.day || w.day == v.day && w.minute < v.minute }

// asUTC is what a clock shows, as if it were UTC.
func asUTC(at time.Time) time.Time {
	return time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), 0, 0, time.UTC)
}

// window is what a zone's clocks show at each minute about a change.
type window struct {
	zone        *time.Location
	from, until time.Time
	minutes     []time.Time
	walls       []wall
	shown       map[wall][]time.Time
}

func newWindow(zone *time.Location, at time.Time) window {
	w := window{zone: zone, from: at.Add(-9 * time.Hour), until: at.Add(9 * time.Hour), shown: map[wall][]time.Time{}}
	for at := w.from.Add(-6 * time.Hour); at.Before(w.until.Add(6 * time.Hour)); at = at.Add(time.Minute) {
		shown := wallOf(at.In(zone))
		w.shown[shown] = append(w.shown[shown], at)
		w.minutes, w.walls = append(w.minutes, at), append(w.walls, shown)
	}
	return w
}

// expect finds the instants of a timetable in a window by looking at each minute of
// it, and at each minute that a clock could show; allows says which the timetable
// means.
func (w window) expect(allows func(civil time.Time) bool, skip, twice bool) []time.Time {
	found := map[time.Time]bool{}
	first, last := asUTC(w.from.Add(-3*time.Hour).In(w.zone)), asUTC(w.until.Add(3*time.Hour).In(w.zone))
	for civil := first; civil.Before(last); civil = civil.Add(time.Minute) {
		if !allows(civil) {
			continue
		}
		shown := wallOf(civil)
		instants := w.shown[shown]
		switch {
		case len(instants) == 0 && !skip:
			i := slices.IndexFunc(w.walls, shown.before)
			found[w.minutes[i]] = true
		case len(instants) > 0 && twice:
			for _, at := range instants {
				found[at] = true
			}
		case len(instants) > 0:
			found[instants[0]] = true
		}
	}
	var all []time.Time
	for at := range found {
		if !at.Before(w.from) && at.Before(w.until) {
			all = append(all, at)
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}

// cases are timings with an independent account of the minutes that they mean.
var timings = []struct {
	when   jobs.Timing
	allows func(civil time.Time) bool
}{
	{"* * * * *", func(time.Time) bool { return true }},
	{"0 * * * *", func(c time.Time) bool { return c.Minute() == 0 }},
	{"*/15 * * * *", func(c time.Time) bool { return c.Minute()%15 == 0 }},
	{"30 2 * * *", func(c time.Time) bool { return c.Hour() == 2 && c.Minute() == 30 }},
	{"@daily", func(c time.Time) bool { return c.Hour() == 0 && c.Minute() == 0 }},
	{"5,45 0-3 * * *", func(c time.Time) bool { return c.Hour() <= 3 && (c.Minute() == 5 || c.Minute() == 45) }},
	{"15 1 * * 0", func(c time.Time) bool { return c.Weekday() == time.Sunday && c.Hour() == 1 && c.Minute() == 15 }},
	{"0 0,23 1-7 * 6", func(c time.Time) bool {
		return (c.Day() <= 7 || c.Weekday() == time.Saturday) && (c.Hour() == 0 || c.Hour() == 23) && c.Minute() == 0
	}},
}

// TestChangesOfTheClocks looks at every change of the clocks from 2020 to 2035 in
// every zone, by each policy: each instant comes once, in order, and at no other time.
// The timings take turns.
func TestChangesOfTheClocks(t *testing.T) {
	t.Parallel()
	names := strings.Fields(zoneNames)
	if len(names) < 590 {
		t.Fatalf("only %d zones", len(names))
	}
	seen, looked := map[string]bool{}, 0
	for _, name := range names {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range transitions(zone) {
			_, before := at.Add(-time.Second).In(zone).Zone()
			_, after := at.In(zone).Zone()
			same := fmt.Sprint(at, before, after)
			if seen[same] {
				continue // an alias, or a zone that changed with another
			}
			seen[same] = true
			looked++
			pick := timings[looked%len(timings)]
			newWindow(zone, at.Truncate(time.Minute)).check(t, name, pick.when, pick.allows)
		}
	}
	t.Logf("%d zones, %d changes", len(names), looked)
	if looked < 1000 {
		t.Errorf("only %d changes", looked)
	}
}

// check compares the instants of a timing with those that are expected, by each
// policy.
func (w window) check(t *testing.T, name string, when jobs.Timing, allows func(time.Time) bool) {
	t.Helper()
	for _, skipped := range []string{"next", "skip"} {
		for _, repeated := range []string{"once", "twice"} {
			times := parse(t, jobs.Timetable{When: when, Zone: name, Skipped: skipped, Repeated: repeated})
			var got []time.Time
			for next, ever := times.Next(w.from.Add(-time.Nanosecond)); ever && next.Before(w.until); next, ever = times.Next(next) {
				if n := len(got); n > 0 && !next.After(got[n-1]) {
					t.Fatalf("%s %s: %v comes after %v", name, when, next, got[n-1])
				}
				got = append(got, next)
			}
			want := w.expect(allows, skipped == "skip", repeated == "twice")
			if !slices.EqualFunc(got, want, time.Time.Equal) {
				t.Errorf("%s, %s from %v, %s, %s:\n got %v\nwant %v", name, when, w.from, skipped, repeated, only(got, want), only(want, got))
			}
		}
	}
}

// only returns what a has and b has not.
func only(a, b []time.Time) (all []time.Time) {
	for _, at := range a {
		if !slices.ContainsFunc(b, at.Equal) {
			all = append(all, at)
		}
	}
	return all
}

// TestEveryPolicyAtEveryTiming looks at some changes in full.
func TestEveryPolicyAtEveryTiming(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo", "Africa/Casablanca", "Asia/Beirut", "America/Nuuk", "Antarctica/Troll"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		all := transitions(zone)
		for _, at := range all[len(all)-2:] {
			w := newWindow(zone, at)
			for _, timing := range timings {
				w.check(t, name, timing.when, timing.allows)
			}
		}
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		when, zone, after string
		want              []string
	}{
		{"0 2 * * *", "", "2026-01-01T02:00:00Z", []string{"2026-01-02T02:00:00Z", "2026-01-03T02:00:00Z"}},
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},                           // left out: the next instant
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},                           // repeated: once
		{"30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", []string{"2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"}},                           // by the hour: real time
		{"30 */1 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"}}, // likewise
		{"@daily", "Africa/Cairo", "2026-04-23T12:00:00Z", []string{"2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"}},                                // a midnight that is not there
		{"0 0 29 2 *", "", "2026-01-01T00:00:00Z", []string{"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"}},
		{"0 0 29 2 *", "", "2096-03-01T00:00:00Z", []string{"2104-02-29T00:00:00Z"}}, // 2100 has none
		{"*/20 * * * * *", "", "2026-01-01T00:00:39.5Z", []string{"2026-01-01T00:00:40Z", "2026-01-01T00:01:00Z"}},
		{"0 0 13 * 5", "", "2026-02-01T00:00:00Z", []string{"2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z"}}, // either day
		{"0 9 ? * mon-fri", "", "2026-11-27T10:00:00Z", []string{"2026-11-30T09:00:00Z"}},
		{"@every 90s", "", "2026-01-01T00:00:00Z", []string{"2026-01-01T00:01:30Z", "2026-01-01T00:03:00Z"}},
		{"@every 90s", "", "1969-12-31T23:59:59Z", []string{"1970-01-01T00:00:00Z"}},
		{"@every 7h", "", "1970-01-01T00:00:00Z", []string{"1970-01-01T07:00:00Z"}},
		{"@hourly", "Asia/Kolkata", "2026-01-01T00:00:00Z", []string{"2026-01-01T00:30:00Z"}},
	} {
		times := parse(t, jobs.Timetable{When: jobs.Timing(c.when), Zone: c.zone})
		at, err := time.Parse(time.RFC3339Nano, c.after)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			var ever bool
			if at, ever = times.Next(at); !ever || at.Format(time.RFC3339) != want {
				t.Errorf("%s %s after %s: %v, want %s", c.when, c.zone, c.after, at, want)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		change       func(*jobs.Timetable)
		field, bound string
	}{
		{func(j *jobs.Timetable) { j.When = "" }, "when", "five fields"},
		{func(j *jobs.Timetable) { j.When = "* * * *" }, "when", "expected 5 to 6 fields"},
		{func(j *jobs.Timetable) { j.When = "60 * * * *" }, "when", "above maximum"},
		{func(j *jobs.Timetable) { j.When = ", * * * *" }, "when", "minute has none"},
		{func(j *jobs.Timetable) { j.When = "0 0 31 4,6 *" }, "when", "a time that comes"},
		{func(j *jobs.Timetable) { j.When = "TZ=UTC" }, "when", "give it as zone"}, // robfig ends the process here
		{func(j *jobs.Timetable) { j.When = "CRON_TZ=UTC * * * * *" }, "when", "give it as zone"},
		{func(j *jobs.Timetable) { j.When = "@reboot" }, "when", "descriptor"},
		{func(j *jobs.Timetable) { j.When = "@every 500ms" }, "when", "whole seconds from 1s"},
		{func(j *jobs.Timetable) { j.When = "@every -1h" }, "when", "whole seconds from 1s"},
		{func(j *jobs.Timetable) { j.When = "@every 9999h" }, "when", "to 8784h"},
		{func(j *jobs.Timetable) { j.When = "@every" }, "when", "whole seconds"},
		{func(j *jobs.Timetable) { j.When = jobs.Timing(strings.Repeat("*", 300)) }, "when", "at most 256 bytes"},
		{func(j *jobs.Timetable) { j.Zone = "Local" }, "zone", "IANA"},
		{func(j *jobs.Timetable) { j.Zone = "../etc/passwd" }, "zone", "IANA"},
		{func(j *jobs.Timetable) { j.Name = "a@b" }, "name", "1 to 64"},
		{func(j *jobs.Timetable) { j.Kind = "" }, "kind", "1 to 64"},
		{func(j *jobs.Timetable) { j.Jitter = jobs.Span(25 * time.Hour) }, "jitter", "to 24h"},
		{func(j *jobs.Timetable) { j.Overlap = "never" }, "overlap", "allow, skip, queue, cancel"},
		{func(j *jobs.Timetable) { j.Skipped = "later" }, "skipped", "next, skip"},
		{func(j *jobs.Timetable) { j.CatchUp = &jobs.CatchUp{Most: 1001} }, "catch_up.most", "to 1000"},
		{func(j *jobs.Timetable) { j.CatchUp = &jobs.CatchUp{Oldest: jobs.Span(200 * time.Hour)} }, "catch_up.oldest", "to 168h"},
		{func(j *jobs.Timetable) { j.Payload = []byte("{") }, "payload", "valid JSON"},
		{func(j *jobs.Timetable) { j.Payload = make([]byte, 70_000) }, "payload", "at most 65536 bytes"},
		{func(j *jobs.Timetable) { j.Replay = &jobs.DeadFilter{} }, "replay", "alone"},
		{func(j *jobs.Timetable) { j.Kind, j.Replay = "", &jobs.DeadFilter{Class: "odd"} }, "replay.class", "classes"},
		{func(j *jobs.Timetable) { j.Kind, j.Replay = "", &jobs.DeadFilter{Rate: 2000} }, "replay.rate", "to 1000"},
	} {
		table := jobs.Timetable{Name: "s", When: "@daily", Kind: "work"}
		c.change(&table)
		_, err := Parse(table)
		var bad *jobs.InvalidError
		if !errors.As(err, &bad) || bad.Field != c.field || !strings.Contains(err.Error(), c.bound) {
			t.Errorf("%+v: %v, want %s %s", table, err, c.field, c.bound)
		}
	}
}

func TestJitter(t *testing.T) {
	t.Parallel()
	times := parse(t, jobs.Timetable{When: "@every 1m", Jitter: jobs.Span(10 * time.Second)})
	other := parse(t, jobs.Timetable{Name: "other", When: "@every 1m", Jitter: jobs.Span(10 * time.Second)})
	var sum time.Duration
	differ, at := 0, noonUTC
	for range 1000 {
		at, _ = times.Next(at)
		late := times.Due(at).Sub(at)
		if late < 0 || late >= 10*time.Second || !times.Due(at).Equal(at.Add(late)) {
			t.Fatalf("%v is late by %v", at, late)
		}
		if other.Due(at) != times.Due(at) {
			differ++
		}
		sum += late
	}
	if mean := sum / 1000; mean < 4500*time.Millisecond || mean > 5500*time.Millisecond || differ < 990 {
		t.Errorf("late by %v on average; %d of 1000 differ from another schedule's", mean, differ)
	}
}

var noonUTC = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// TestNextIsOrdered: whatever can be read has instants that only grow, on whole
// seconds, and looking from anywhere between two finds the second.
func TestNextIsOrdered(t *testing.T) {
	t.Parallel()
	names := strings.Fields(zoneNames)
	rapid.Check(t, func(t *rapid.T) {
		field := func(name string, low, high int) string {
			if rapid.Bool().Draw(t, name+" any") {
				return "*"
			}
			a := rapid.IntRange(low, high).Draw(t, name)
			b := rapid.IntRange(a, high).Draw(t, name+" to")
			return fmt.Sprintf("%d-%d/%d", a, b, rapid.IntRange(1, 7).Draw(t, name+" step"))
		}
		table := jobs.Timetable{
			Name: "s", Kind: "work", Zone: rapid.SampledFrom(names).Draw(t, "zone"),
			When:    jobs.Timing(strings.Join([]string{field("second", 0, 59), field("minute", 0, 59), field("hour", 0, 23), field("day", 1, 31), field("month", 1, 12), field("weekday", 0, 6)}, " ")),
			Skipped: rapid.SampledFrom([]string{"", "next", "skip"}).Draw(t, "skipped"), Repeated: rapid.SampledFrom([]string{"", "once", "twice"}).Draw(t, "repeated"),
		}
		times, err := Parse(table)
		if err != nil {
			return // a day that is in no month
		}
		at := time.Unix(rapid.Int64Range(1_577_836_800, 2_082_758_400).Draw(t, "from"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
		for range 20 {
			next, ever := times.Next(at)
			if !ever || !next.After(at) || next.Nanosecond() != 0 {
				t.Fatalf("%+v: %v after %v", table, next, at)
			}
			between := at.Add(next.Sub(at) / 2)
			if again, _ := times.Next(between); !again.Equal(next) {
				t.Fatalf("%+v: %v after %v, but %v after %v", table, next, at, again, between)
			}
			at = next
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, when := range []string{"* * * * *", "*/5 1-3,7 ? jan mon#2", "@daily", "@every 1h30m", "TZ=UTC", "0 0 29 2 *", "59 59 23 31 12 7", ",,,,", "@every 9223372036s"} {
		f.Add(when, "Europe/Berlin")
	}
	f.Fuzz(func(t *testing.T, when, zone string) {
		times, err := Parse(jobs.Timetable{Name: "s", Kind: "work", When: jobs.Timing(when), Zone: zone})
		if err != nil {
			if !errors.Is(err, jobs.ErrInvalid) {
				t.Fatalf("%q %q: %v", when, zone, err)
			}
			return
		}
		at := noonUTC
		for range 3 {
			next, ever := times.Next(at)
			if !ever || !next.After(at) {
				t.Fatalf("%q %q: %v after %v", when, zone, next, at)
			}
			at = next
		}
	})
}
