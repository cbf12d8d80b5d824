package jobs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
)

// upper is a codec whose bytes are no JSON.
type upper struct{}

func (upper) Encode(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	return append([]byte("U:"), bytes.ToUpper(data)...), err
}

func (upper) Decode(data []byte, v any) error { return json.Unmarshal(bytes.ToLower(data[2:]), v) }

func TestScheduled(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[string, string]("report", jobs.Queue("reports"))
	table := kind.Scheduled("nightly", jobs.Cron("0 2 * * *"), "hello", jobs.In("Europe/Berlin"), jobs.Jitter(time.Minute),
		jobs.IfRunning(jobs.OverlapSkip), jobs.Missed(3, time.Hour), jobs.ClockChanges("skip", "twice"), jobs.Queue("other"))
	if err := table.Check(); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(table)
	want := `{"name":"nightly","when":"0 2 * * *","zone":"Europe/Berlin","kind":"report","queue":"other","payload":"hello","skipped":"skip","repeated":"twice",` +
		`"jitter":"1m0s","overlap":"skip","catch_up":{"most":3,"oldest":"1h0m0s"}}`
	if err != nil || string(text) != want {
		t.Errorf("%s %v\nwant %s", text, err, want)
	}
	var back jobs.Timetable
	if err := json.Unmarshal(text, &back); err != nil || back.Jitter != table.Jitter || *back.CatchUp != *table.CatchUp {
		t.Errorf("%+v %v", back, err)
	}
	job := table.Job(kind.Definition(), "nightly@x")
	if direct := kind.New("nightly@x", "hello", jobs.Queue("other")); job.Err() != nil || job.Digest != direct.Digest || job.Queue != "other" || !bytes.Equal(job.Payload, direct.Payload) {
		t.Errorf("%+v %v", job, job.Err())
	}
}

// TestScheduledWithCodec: the payload is encoded where the schedule is made, so that
// schedulers need not have the codec.
func TestScheduledWithCodec(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[string, string]("secret", jobs.WithCodec(upper{}))
	table := kind.Scheduled("s", jobs.Every(90*time.Second), "hello")
	text, err := json.Marshal(table)
	var back jobs.Timetable
	if err := errors.Join(err, json.Unmarshal(text, &back), back.Check()); err != nil || strings.Contains(string(text), "hello") {
		t.Fatalf("%s %v", text, err)
	}
	published := kind.Definition()
	published.Codec = jobs.JSON // as schedulers know it
	job, direct := back.Job(published, "k"), kind.New("k", "hello")
	if job.Err() != nil || string(job.Payload) != `U:"HELLO"` || job.Digest != direct.Digest || back.When != "@every 1m30s" {
		t.Errorf("%+v %v", job, job.Err())
	}
	if published.MaxPayload = 2; back.Job(published, "k").Err() == nil {
		t.Error("a payload over the kind's bound is accepted")
	}
}

func TestScheduledReplay(t *testing.T) {
	t.Parallel()
	table := jobs.ScheduledReplay("again", jobs.Every(time.Hour), jobs.DeadFilter{Class: jobs.ClassTimeout, Newer: jobs.Span(24 * time.Hour)}, jobs.In("UTC"))
	if err := table.Check(); err != nil || table.Work() != "replay dead letters: class=timeout newer=24h0m0s" || table.Zone != "UTC" {
		t.Errorf("%+v %v", table, err)
	}
}

func TestTimetablesOfHandlers(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[string, string]("report")
	a, b := kind.Scheduled("a", jobs.Cron("@daily"), ""), kind.Scheduled("b", jobs.Cron("@daily"), "")
	plain := kind.Do(nil)
	with := plain.With(a).With(b)
	var names []string
	for _, table := range jobs.Timetables([]jobs.Handler{plain, with, plain.With(a)}) {
		names = append(names, table.Name)
	}
	if !slices.Equal(names, []string{"a", "b", "a"}) {
		t.Errorf("%v", names)
	}
}

// TestScheduledRefuses: what is wrong with the payload is said when the schedule is
// checked.
func TestScheduledRefuses(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[func(), string]("report")
	if err := kind.Scheduled("s", jobs.Cron("@daily"), nil).Check(); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if err := jobs.Define[string, string]("NOT OK").Scheduled("s", jobs.Cron("@daily"), "").Check(); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("%v", err)
	}
	var s jobs.Span
	if err := s.UnmarshalText([]byte("soon")); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("%v", err)
	}
}
