package orders

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
)

// attempt keeps a job's steps in memory.
type attempt struct {
	mu         sync.Mutex
	definition jobs.Definition
	entered    map[string]bool
	recorded   map[string][]byte
	progress   []byte
	cut        error // of SaveProgress
}

func newAttempt() *attempt {
	return &attempt{definition: Fulfil.Definition(), recorded: map[string][]byte{}}
}

func (a *attempt) About() jobs.About {
	return jobs.About{Queue: "orders", Key: "order:1042", Kind: "order.fulfil", Incarnation: "one", Attempt: 1}
}
func (a *attempt) Definition() jobs.Definition { return a.definition }
func (a *attempt) Progress(string) []byte      { return a.progress }
func (a *attempt) Await(context.Context, jobs.Wait) ([]byte, bool, error) {
	return nil, false, errors.ErrUnsupported
}

func (a *attempt) Children(context.Context, jobs.Group, bool) ([]jobs.Ended, bool, error) {
	return nil, false, errors.ErrUnsupported
}

func (a *attempt) SaveProgress(_ context.Context, _ string, data []byte) error {
	a.progress = data
	return a.cut
}

func (a *attempt) Enter(step string) ([]byte, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.entered[step] {
		return nil, false, jobs.ErrDuplicateStep
	}
	a.entered[step] = true
	output, ok := a.recorded[step]
	return output, ok, nil
}

func (a *attempt) Commit(_ context.Context, step string, output []byte, _ time.Time, _ bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.recorded[step] = output
	return nil
}

// run executes the handler once, as a worker would.
func (a *attempt) run(t *testing.T, s Services, o Order) (Shipment, error) {
	t.Helper()
	payload, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	a.entered = map[string]bool{}
	result, err := s.Handler().Run(jobs.WithAttempt(t.Context(), a), payload)
	var shipment Shipment
	if err == nil {
		err = json.Unmarshal(result, &shipment)
	}
	return shipment, err
}

var once = map[string]int{"/charge": 1, "/reserve": 1, "/label": 1, "/send": 1}

func TestStepsRunOnce(t *testing.T) {
	r, a, o := newRig(t), newAttempt(), sampleOrder(t)
	first, err := a.run(t, r.Services, o)
	if err != nil {
		t.Fatal(err)
	}
	if first.Order != o.ID || first.Payment == "" || first.Reservation == "" || first.Label == "" || first.Mail == "" {
		t.Errorf("incomplete: %+v", first)
	}
	if len(a.recorded) != 5 {
		t.Errorf("%d steps instead of 5", len(a.recorded))
	}
	second, err := a.run(t, r.Services, o)
	if err != nil || second != first {
		t.Errorf("run again: %+v, %v; first %+v", second, err, first)
	}
	if got := r.count(t, "received"); !maps.Equal(got, once) {
		t.Errorf("calls: %v", got)
	}
}

func TestResumesAtTheFailedStep(t *testing.T) {
	r, a, o := newRig(t), newAttempt(), sampleOrder(t)
	r.fault(t, r.Warehouse, Fault{Mode: "500", Count: 2, Path: "/reserve", Match: o.ID})
	for range 2 {
		_, err := a.run(t, r.Services, o)
		if c := jobs.Classify(err); c.Class != jobs.ClassTransient || c.Step != "reserve" {
			t.Fatalf("%v is %+v", err, c)
		}
	}
	if _, err := a.run(t, r.Services, o); err != nil {
		t.Fatal(err)
	}
	if got := r.count(t, "received"); got["/charge"] != 1 || got["/reserve"] != 3 || got["/send"] != 1 {
		t.Errorf("calls: %v", got)
	}
	if got := r.count(t, "effect"); !maps.Equal(got, once) {
		t.Errorf("effects: %v", got)
	}
}

// The class that a mode's failure has, and how often the effect is asked for.
var failures = map[string]struct {
	class    jobs.Class
	replayed int
}{
	"slow": {jobs.ClassTimeout, 0}, "hang": {jobs.ClassTimeout, 0},
	"503": {jobs.ClassUnavailable, 0}, "500": {jobs.ClassTransient, 0}, "4xx": {jobs.ClassInvalid, 0},
	"refuse": {jobs.ClassUnavailable, 0}, "429": {jobs.ClassThrottled, 0},
	"half": {jobs.ClassTransient, 1}, "reply-lost": {jobs.ClassUnavailable, 1},
}

func TestEveryModeEndsInOneEffect(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			r, a, o := newRig(t), newAttempt(), sampleOrder(t)
			if mode == "slow" || mode == "hang" {
				a.definition.StepTimeout = 500 * time.Millisecond
			}
			r.fault(t, r.Payments, Fault{Mode: mode, DelayMS: maxFaultMS, Count: 1, Path: "/charge", Match: o.ID, RetryAfterMS: 1500})
			_, err := a.run(t, r.Services, o)
			c := jobs.Classify(err)
			if c.Class != failures[mode].class || c.Step != "charge" {
				t.Fatalf("%v is %+v", err, c)
			}
			if mode == "429" && c.Wait != 2*time.Second {
				t.Errorf("told to wait %v instead of 2s", c.Wait)
			}
			a.definition.StepTimeout = Fulfil.Definition().StepTimeout
			if _, err := a.run(t, r.Services, o); err != nil {
				t.Fatal(err)
			}
			if got := r.count(t, "effect"); !maps.Equal(got, once) {
				t.Errorf("effects: %v", got)
			}
			if got := r.count(t, "replayed")["/charge"]; got != failures[mode].replayed {
				t.Errorf("%d replayed instead of %d", got, failures[mode].replayed)
			}
			if got := r.count(t, "fault:"+mode)["/charge"]; got != 1 {
				t.Errorf("%d faults instead of 1", got)
			}
		})
	}
}

func TestTooManyPieces(t *testing.T) {
	o := sampleOrder(t)
	o.Items = []Item{{"A-1", "a", 1000, 1}, {"A-2", "b", 1000, 1}, {"A-3", "c", 1, 1}}
	o.TotalCents = o.sum()
	_, err := newAttempt().run(t, Services{}, o)
	if c := jobs.Classify(err); c.Class != jobs.ClassInvalid || c.Step != "validate" {
		t.Errorf("%v is %+v", err, c)
	}
}

func TestKindIsWellDefined(t *testing.T) {
	if err := (Services{}).Handler().Err(); err != nil {
		t.Error(err)
	}
}

func (a *attempt) Undoing() ([]string, bool) { return nil, false }

func (a *attempt) Undone(string) int { return 0 }

func (a *attempt) Unmet() []string { return nil }

func (a *attempt) Call(context.Context, string, []string) (func(error), error) {
	return func(error) {}, nil
}
