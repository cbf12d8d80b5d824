package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
)

const tenYears = 10 * 365 * 24 * time.Hour

func TestDefineDefaults(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[int, int]("k")
	if kind.Err() != nil {
		t.Fatal(kind.Err())
	}
	got := kind.Definition()
	if got.Schema == "" {
		t.Error("no schema")
	}
	got.Schema = ""
	want := jobs.Definition{
		Name: "k", Queue: "default", Version: 1, Retry: jobs.DefaultRetry, Timeout: 30 * time.Minute, Retention: 24 * time.Hour,
		MaxPayload: 64 << 10, MaxOutput: 1 << 20, MaxSteps: 2000, MaxRecorded: 16 << 20, Codec: jobs.JSON,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDefineOptions(t *testing.T) {
	t.Parallel()
	codec := &marked{}
	got := jobs.Define[int, int]("k",
		jobs.Queue("q"), jobs.Version(2), jobs.Retry(jobs.Fixed(1, 2)), jobs.RetryClass(jobs.ClassPanic, jobs.Fixed(3, 4)),
		jobs.Timeout(time.Hour), jobs.StepTimeout(time.Minute), jobs.Retention(time.Hour), jobs.Needs("a", "b"), jobs.Needs("c"),
		jobs.MaxPayload(5), jobs.MaxOutput(6), jobs.MaxSteps(7), jobs.MaxRecorded(8000), jobs.WithCodec(codec),
	).Definition()
	got.Schema = ""
	want := jobs.Definition{
		Name: "k", Queue: "q", Version: 2, Retry: jobs.Fixed(1, 2), ClassRetry: map[jobs.Class]jobs.Schedule{jobs.ClassPanic: jobs.Fixed(3, 4)},
		Timeout: time.Hour, StepTimeout: time.Minute, Retention: time.Hour, Needs: []string{"a", "b", "c"},
		MaxPayload: 5, MaxOutput: 6, MaxSteps: 7, MaxRecorded: 8000, Codec: codec,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDefineRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		kind   string
		option jobs.Option
		field  string // empty: accepted
	}{
		{"kind", "Order", jobs.Version(1), "kind"},
		{"empty kind", "", jobs.Version(1), "kind"},
		{"queue", "k", jobs.Queue("Q"), "queue"},
		{"empty queue", "k", jobs.Queue(""), "queue"},
		{"least version", "k", jobs.Version(1), ""},
		{"most version", "k", jobs.Version(1_000_000), ""},
		{"version zero", "k", jobs.Version(0), "version"},
		{"version too high", "k", jobs.Version(1_000_001), "version"},
		{"retry", "k", jobs.Retry(jobs.Fixed(-1, 2)), "retry wait"},
		{"retry of a class", "k", jobs.RetryClass(jobs.ClassDenied, jobs.Fixed(-1, 2)), "retry denied wait"},
		{"retry of a class that is none", "k", jobs.RetryClass("unavailble", jobs.Fixed(1, 2)), "retry class"},
		{"retry of no class", "k", jobs.RetryClass("", jobs.Fixed(1, 2)), "retry class"},
		{"least timeout", "k", jobs.Timeout(time.Second), ""},
		{"most timeout", "k", jobs.Timeout(30 * 24 * time.Hour), ""},
		{"timeout too short", "k", jobs.Timeout(time.Second - 1), "timeout"},
		{"timeout zero", "k", jobs.Timeout(0), "timeout"},
		{"timeout too long", "k", jobs.Timeout(30*24*time.Hour + 1), "timeout"},
		{"least step timeout", "k", jobs.StepTimeout(time.Millisecond), ""},
		{"step timeout too short", "k", jobs.StepTimeout(0), "step timeout"},
		{"step timeout too long", "k", jobs.StepTimeout(30*24*time.Hour + 1), "step timeout"},
		{"least retention", "k", jobs.Retention(jobs.MinRetention), ""},
		{"most retention", "k", jobs.Retention(tenYears), ""},
		{"retention too short", "k", jobs.Retention(jobs.MinRetention - 1), "retention"},
		{"no retention", "k", jobs.Retention(0), "retention"},
		{"retention too long", "k", jobs.Retention(tenYears + 1), "retention"},
		{"no needs", "k", jobs.Needs(), ""},
		{"needs", "k", jobs.Needs("payments", "Ware house"), "needs"},
		{"least payload", "k", jobs.MaxPayload(1), ""},
		{"payload zero", "k", jobs.MaxPayload(0), "max payload"},
		{"payload too large", "k", jobs.MaxPayload(64<<20 + 1), "max payload"},
		{"most output", "k", jobs.MaxOutput(64 << 20), ""},
		{"output zero", "k", jobs.MaxOutput(0), "max output"},
		{"output too large", "k", jobs.MaxOutput(math.MaxInt), "max output"},
		{"no codec", "k", jobs.WithCodec(nil), "codec"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			kind := jobs.Define[int, int](test.kind, test.option)
			handler := kind.Do(func(context.Context, int) (int, error) { return 1, nil })
			if test.field == "" {
				if kind.Err() != nil || handler.Err() != nil || kind.New("key", 1).Err() != nil {
					t.Errorf("refused: %v", kind.Err())
				}
				return
			}
			requireInvalid(t, kind.Err(), test.field)
			requireInvalid(t, handler.Err(), test.field)
			requireInvalid(t, kind.New("key", 1).Err(), test.field)
			if !strings.Contains(kind.Err().Error(), fmt.Sprintf("kind %q", test.kind)) {
				t.Errorf("%v does not name the kind", kind.Err())
			}
			if err := handler.Check([]byte("1")); err != nil {
				t.Errorf("check: %v", err)
			}
		})
	}
}

func TestDefineReportsEveryField(t *testing.T) {
	t.Parallel()
	err := jobs.Define[int, int]("K", jobs.Version(0), jobs.Timeout(0)).Err()
	for _, field := range []string{"kind", "version", "timeout"} {
		if !strings.Contains(err.Error(), field+" ") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}

// pointerValidated has its method on the pointer only.
type pointerValidated struct{ N int }

func (v *pointerValidated) Validate() error {
	if v.N < 0 {
		return errNegative
	}
	return nil
}

var errNegative = errors.New("n is negative")

func TestValidateIsCalled(t *testing.T) {
	t.Parallel()
	ok := func(job jobs.Job, handler jobs.Handler) {
		t.Helper()
		if job.Err() != nil {
			t.Errorf("New refused: %v", job.Err())
		}
		if err := handler.Check(job.Payload); err != nil {
			t.Errorf("Check refused: %v", err)
		}
		if _, err := handler.Run(t.Context(), job.Payload); err != nil {
			t.Errorf("Run refused: %v", err)
		}
	}
	refused := func(job jobs.Job, handler jobs.Handler) {
		t.Helper()
		if err := job.Err(); !errors.Is(err, jobs.ErrInvalid) || !strings.Contains(err.Error(), "negative") {
			t.Errorf("New returned %v", err)
		}
		for name, err := range map[string]error{
			"Check": handler.Check(job.Payload),
			"Run":   func() error { _, err := handler.Run(t.Context(), job.Payload); return err }(),
		} {
			if !errors.Is(err, jobs.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "negative") || jobs.Classify(err).Class != jobs.ClassInvalid {
				t.Errorf("%s returned %v", name, err)
			}
		}
	}

	byValue := jobs.Define[validated, int]("k")
	onValue := byValue.Do(func(context.Context, validated) (int, error) { return 1, nil })
	ok(byValue.New("a", validated{1}), onValue)
	refused(byValue.New("a", validated{-1}), onValue)

	byPointer := jobs.Define[pointerValidated, int]("k")
	onPointer := byPointer.Do(func(context.Context, pointerValidated) (int, error) { return 1, nil })
	ok(byPointer.New("a", pointerValidated{1}), onPointer)
	refused(byPointer.New("a", pointerValidated{-1}), onPointer)

	ofPointer := jobs.Define[*pointerValidated, int]("k")
	pointers := ofPointer.Do(func(context.Context, *pointerValidated) (int, error) { return 1, nil })
	ok(ofPointer.New("a", &pointerValidated{1}), pointers)
	refused(ofPointer.New("a", &pointerValidated{-1}), pointers)

	if err := byPointer.New("bad key", pointerValidated{-1}).Err(); !errors.Is(err, errNegative) || !strings.Contains(err.Error(), "key") {
		t.Errorf("%v does not name both", err)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[map[string]int, int]("k", jobs.Queue("q"), jobs.Timeout(time.Minute), jobs.Retention(time.Hour))
	at, deadline := time.Unix(100, 0), time.Unix(200, 0)
	got := kind.New("key", map[string]int{"b": 1, "a": 2},
		jobs.Queue("other"), jobs.Retention(2*time.Hour), jobs.At(at), jobs.Deadline(deadline), jobs.Tenant("acme"), jobs.Header("X-A", "b"), jobs.Header("X-B", ""))
	if got.Err() != nil {
		t.Fatal(got.Err())
	}
	want := jobs.Job{
		Kind: "k", Queue: "other", Key: "key", Payload: []byte(`{"a":2,"b":1}`), Version: 1, Digest: jobs.Digest("k", []byte(`{"a":2,"b":1}`)),
		Tenant: "acme", Headers: map[string]string{"X-A": "b", "X-B": ""}, At: at, Deadline: deadline, Timeout: time.Minute, Retention: 2 * time.Hour,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := kind.New("key", nil, jobs.Delay(time.Second)); got.Err() != nil || got.Delay != time.Second || got.Queue != "q" || got.Retention != time.Hour {
		t.Errorf("got %+v, %v", got, got.Err())
	}
}

func TestJobRules(t *testing.T) {
	t.Parallel()
	var tooMany, most []jobs.JobOption
	for i := range 33 {
		tooMany = append(tooMany, jobs.Header(fmt.Sprint("h", i), "v"))
	}
	most = tooMany[:32]
	year := func(y int) time.Time { return time.Date(y, 6, 1, 0, 0, 0, 0, time.UTC) }
	one := func(o jobs.JobOption) []jobs.JobOption { return []jobs.JobOption{o} }
	tests := []struct {
		name    string
		key     string
		options []jobs.JobOption
		field   string // empty: accepted
	}{
		{"no options", "a", nil, ""},
		{"key", "a b", nil, "key"},
		{"empty key", "", nil, "key"},
		{"queue", "a", one(jobs.Queue("Q")), "queue"},
		{"retention", "a", one(jobs.Retention(time.Minute)), "retention"},
		{"delay zero", "a", one(jobs.Delay(0)), ""},
		{"longest delay", "a", one(jobs.Delay(tenYears)), ""},
		{"delay below zero", "a", one(jobs.Delay(-1)), "delay"},
		{"delay too long", "a", one(jobs.Delay(tenYears + 1)), "delay"},
		{"at in the past", "a", one(jobs.At(year(1970))), ""},
		{"at in the last year", "a", one(jobs.At(year(9999))), ""},
		{"at zero", "a", one(jobs.At(time.Time{})), "at"},
		{"at too early", "a", one(jobs.At(year(1969))), "at"},
		{"at too late", "a", one(jobs.At(year(10_000))), "at"},
		{"delay and at", "a", []jobs.JobOption{jobs.Delay(1), jobs.At(year(2024))}, "delay"},
		{"at and delay", "a", []jobs.JobOption{jobs.At(year(2024)), jobs.Delay(1)}, "delay"},
		{"at and delay zero", "a", []jobs.JobOption{jobs.At(year(2024)), jobs.Delay(0)}, ""},
		{"deadline in the past", "a", one(jobs.Deadline(year(1970))), ""},
		{"deadline zero", "a", one(jobs.Deadline(time.Time{})), "deadline"},
		{"deadline at the epoch", "a", one(jobs.Deadline(time.Unix(0, 0))), "deadline"},
		{"deadline too late", "a", one(jobs.Deadline(year(10_000))), "deadline"},
		{"tenant", "a", one(jobs.Tenant("Acme Inc")), "tenant"},
		{"empty tenant", "a", one(jobs.Tenant("")), "tenant"},
		{"header of perdure", "a", one(jobs.Header("perdure-x", "")), "header"},
		{"header of perdure, upper case", "a", one(jobs.Header("PERDURE-X", "")), "header"},
		{"empty header", "a", one(jobs.Header("", "v")), "header"},
		{"longest header", "a", one(jobs.Header(strings.Repeat("h", 64), strings.Repeat("v", 1024))), ""},
		{"header's name too long", "a", one(jobs.Header(strings.Repeat("h", 65), "v")), "header"},
		{"header with a space", "a", one(jobs.Header("a b", "v")), "header"},
		{"header with a control character", "a", one(jobs.Header("a\n", "v")), "header"},
		{"header beyond ASCII", "a", one(jobs.Header("é", "v")), "header"},
		{"header's value too long", "a", one(jobs.Header("h", strings.Repeat("v", 1025))), "header h"},
		{"most headers", "a", most, ""},
		{"too many headers", "a", tooMany, "number of headers"},
		{"one header many times", "a", []jobs.JobOption{jobs.Header("h", "1"), jobs.Header("h", "2")}, ""},
	}
	kind := jobs.Define[int, int]("k")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, job := range []jobs.Job{kind.New(test.key, 1, test.options...), jobs.Raw(kind.Definition(), test.key, []byte("1"), test.options...)} {
				switch {
				case test.field == "" && job.Err() != nil:
					t.Errorf("refused: %v", job.Err())
				case test.field != "":
					requireInvalid(t, job.Err(), test.field)
				}
			}
		})
	}
}

func TestPayloadBounds(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[string, int]("k", jobs.MaxPayload(10))
	if err := kind.New("a", strings.Repeat("x", 8)).Err(); err != nil {
		t.Errorf("10 bytes are refused: %v", err)
	}
	requireInvalid(t, kind.New("a", strings.Repeat("x", 9)).Err(), "payload")
	requireInvalid(t, jobs.Raw(kind.Definition(), "a", []byte(`"123456789"`)).Err(), "payload")

	unencodable := jobs.Define[chan int, int]("k").New("a", make(chan int))
	if err := unencodable.Err(); !errors.Is(err, jobs.ErrInvalid) || !strings.Contains(err.Error(), `payload of kind "k"`) {
		t.Errorf("a payload that cannot be encoded: %v", err)
	}
	broken := jobs.Define[int, int]("k", jobs.WithCodec(&marked{digestErr: errNegative})).New("a", 1)
	if err := broken.Err(); !errors.Is(err, jobs.ErrInvalid) || !errors.Is(err, errNegative) {
		t.Errorf("a payload that cannot be digested: %v", err)
	}
}

func TestRaw(t *testing.T) {
	t.Parallel()
	d := jobs.Define[map[string]any, int]("k", jobs.Queue("q")).Definition()
	job := jobs.Raw(d, "a", json.RawMessage(` {"b":1.0, "a":"<"} `), jobs.Tenant("acme"))
	if job.Err() != nil {
		t.Fatal(job.Err())
	}
	if string(job.Payload) != ` {"b":1.0, "a":"<"} ` || job.Queue != "q" || job.Kind != "k" || job.Tenant != "acme" {
		t.Errorf("got %+v", job)
	}
	if same := jobs.Define[map[string]any, int]("k").New("a", map[string]any{"a": "<", "b": 1}); same.Digest != job.Digest {
		t.Error("the same payload by New and by Raw differ in their digest")
	}
	for _, none := range []json.RawMessage{nil, {}} {
		if job := jobs.Raw(d, "a", none); job.Err() != nil || string(job.Payload) != "null" || job.Digest != jobs.Digest("k", []byte("null")) {
			t.Errorf("no payload: %+v, %v", job, job.Err())
		}
	}
	for _, bad := range []string{"{", "{} {}", " ", canary} {
		err := jobs.Raw(d, "a", json.RawMessage(bad)).Err()
		requireInvalid(t, err, "payload")
		if strings.Contains(err.Error(), canary) {
			t.Errorf("the payload is in the error: %v", err)
		}
	}
	requireInvalid(t, jobs.Raw(jobs.Definition{}, "a", nil).Err(), "kind")
}

// TestRawUsesTheKindsCodec: a job made from JSON is stored in the form that the
// kind's codec can read, and its digest is the one that New gives.
func TestRawUsesTheKindsCodec(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[validated, int]("k", jobs.WithCodec(&marked{}))
	job := jobs.Raw(kind.Definition(), "a", json.RawMessage(` {"N" : 7} `))
	if job.Err() != nil {
		t.Fatal(job.Err())
	}
	if !strings.HasPrefix(string(job.Payload), "marked:") {
		t.Errorf("stored as %q", job.Payload)
	}
	if job.Digest != kind.New("a", validated{7}).Digest {
		t.Error("the digests differ")
	}
	handler := kind.Do(func(_ context.Context, v validated) (int, error) { return v.N, nil })
	if result, err := handler.Run(t.Context(), job.Payload); err != nil || string(result) != "marked:7" {
		t.Errorf("got %s, %v", result, err)
	}
}

// marked puts a mark on what it encodes, as an encrypting codec would.
type marked struct{ digestErr error }

func (*marked) Encode(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	return append([]byte("marked:"), data...), err
}

func (*marked) Decode(data []byte, v any) error {
	rest, ok := strings.CutPrefix(string(data), "marked:")
	if !ok {
		return errors.New("not marked")
	}
	return json.Unmarshal([]byte(rest), v)
}

func (s *marked) Digest(kind string, v any) (string, error) {
	data, err := json.Marshal(v)
	return "keyed:" + jobs.Digest(kind, data), errors.Join(err, s.digestErr)
}

func TestResult(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[int, validated]("k")
	completed := jobs.Info{Queue: "q", Key: "a", State: jobs.StateCompleted}
	if got, err := kind.Result(completed.WithResult([]byte(`{"N":7}`))); err != nil || got.N != 7 {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := kind.Result(completed); err != nil || got.N != 0 {
		t.Errorf("no result: got %+v, %v", got, err)
	}
	shown := completed
	shown.Result = json.RawMessage(`{"N":8}`) // as the HTTP API answers
	if got, err := kind.Result(shown); err != nil || got.N != 8 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := kind.Result(completed.WithResult([]byte(`"x"`))); err == nil || !strings.Contains(err.Error(), "q/a") {
		t.Errorf("another type: %v", err)
	}
	for _, state := range append(jobs.States(), jobs.StateUnknown, "") {
		if state == jobs.StateCompleted {
			continue
		}
		info := completed.WithResult([]byte(`{"N":7}`))
		info.State = state
		if _, err := kind.Result(info); !errors.Is(err, jobs.ErrNotCompleted) {
			t.Errorf("%s: %v", state, err)
		}
	}
	secret := jobs.Define[int, int]("k", jobs.WithCodec(&marked{}))
	if got, err := secret.Result(completed.WithResult([]byte("marked:9"))); err != nil || got != 9 {
		t.Errorf("by the kind's codec: %d, %v", got, err)
	}
}

type node struct {
	Name string
	Next *node
}

func TestSchema(t *testing.T) {
	t.Parallel()
	type a struct{ N int }
	type same struct{ N int }
	type renamed struct {
		N int `json:"n"`
	}
	type retyped struct{ N string }
	type hidden struct {
		N      int
		Cached int `json:"-"`
		own    int
	}
	_ = hidden{own: 1}
	schema := jobs.Define[a, int]("k").Definition().Schema
	for name, equal := range map[string]string{
		"same":         jobs.Define[same, int]("other").Definition().Schema,
		"by a pointer": jobs.Define[*a, int]("k").Definition().Schema,
		"hidden":       jobs.Define[hidden, int]("k").Definition().Schema,
	} {
		if equal != schema {
			t.Errorf("%s: the schema differs", name)
		}
	}
	for name, other := range map[string]string{
		"renamed":        jobs.Define[renamed, int]("k").Definition().Schema,
		"retyped":        jobs.Define[retyped, int]("k").Definition().Schema,
		"another result": jobs.Define[a, string]("k").Definition().Schema,
		"swapped":        jobs.Define[int, a]("k").Definition().Schema,
		"slice":          jobs.Define[[]a, int]("k").Definition().Schema,
		"map":            jobs.Define[map[string]a, int]("k").Definition().Schema,
		"time":           jobs.Define[time.Time, int]("k").Definition().Schema,
		"any":            jobs.Define[any, int]("k").Definition().Schema,
		"recursive":      jobs.Define[node, int]("k").Definition().Schema,
	} {
		if other == schema {
			t.Errorf("%s: the schema is the same", name)
		}
	}
}
