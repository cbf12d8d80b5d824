package orders

import (
	"maps"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/jobs/jobstest"
	"github.com/perdure/perdure/jobs/jobstest/onredis"
)

// An outage of any service pauses an order at the step that needs it; when the service
// is back the order goes on by itself, and has done everything once.
func TestAnOutagePausesAnOrder(t *testing.T) {
	for _, service := range []string{"payments", "warehouse", "mail"} {
		r := newRig(t)
		job := jobstest.New(t, r.Handler(), sampleOrder(t))
		job.Outage(service, 10*time.Minute)
		o := job.Run()
		if took := job.Elapsed(); o.State != jobs.StateCompleted || o.Attempts != 0 || took < 10*time.Minute {
			t.Errorf("without %s: %s after %v with %d attempts used (%v)", service, o.State, took, o.Attempts, o.Err)
		}
		for _, event := range []string{"effect", "received"} {
			if got := r.count(t, event); !maps.Equal(got, once) {
				t.Errorf("without %s: %s %v", service, event, got)
			}
		}
	}
}

func TestAnOutagePausesADelivery(t *testing.T) {
	for _, service := range []string{"payments", "warehouse", "mail"} {
		r := newRig(t)
		job := jobstest.New(t, Deliver.Do(r.Deliver), delivery(t, 100))
		job.Outage(service, time.Minute)
		job.Signal("delivered", "Ada")
		o := job.Run()
		want := map[string]int{"/charge": 1, "/reserve": 1, "/label": 1, "/invoice": 1, "/send": 1}
		if got := r.count(t, "effect"); o.State != jobs.StateCompleted || o.Attempts != 0 || !maps.Equal(got, want) {
			t.Errorf("without %s: %s (%v), effects %v", service, o.State, o.Err, got)
		}
	}
}

// Crashes while it waits for a service and after that do no harm either.
func TestAnOrderSurvivesACrashAnywhereInAnOutage(t *testing.T) {
	for name, options := range map[string][]jobstest.Option{"in memory": nil, "on Redis": {onredis.Use(redistest.Client(t))}} {
		t.Run(name, func(t *testing.T) {
			jobstest.CrashEverywhere(t, func() jobstest.World {
				r := newRig(t)
				return jobstest.World{
					Handler: r.Handler(), Payload: sampleOrder(t), Effects: func() any { return r.count(t, "effect") },
					Prepare: func(j *jobstest.Job) { j.Outage("warehouse", time.Second) },
				}
			}, options...)
		})
	}
}

func TestDependenciesHaveTheirPrefix(t *testing.T) {
	r := newRig(t)
	r.Prefix = "staging"
	for _, h := range r.Handlers() {
		for _, name := range h.Definition.Needs {
			if name != "staging:payments" && name != "staging:warehouse" && name != "staging:mail" {
				t.Errorf("%s needs %s", h.Definition.Name, name)
			}
		}
	}
	for _, d := range r.Handler().Definition.Dependencies {
		if err := d.Check(); err != nil {
			t.Error(err)
		}
		if d.Name == "staging:warehouse" == (d.Health == nil) {
			t.Errorf("%s has a health check: %v", d.Name, d.Health != nil)
		}
	}
	if needs := Fulfil.Definition().Needs; needs[0] != "payments" {
		t.Errorf("the kind itself needs %v now", needs)
	}
	job := jobstest.New(t, r.Handler(), sampleOrder(t))
	job.Outage("staging:payments", time.Minute)
	if o := job.Run(); o.State != jobs.StateCompleted || job.Elapsed() < time.Minute {
		t.Errorf("%s after %v", o.State, job.Elapsed())
	}
}

// The warehouse's health is what its callers meet.
func TestHealthIsWhatCallersMeet(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		fault Fault
		class jobs.Class
	}{
		{Fault{Mode: "refuse"}, jobs.ClassUnavailable},
		{Fault{Mode: "503", Path: "/label"}, jobs.ClassUnavailable},
		{Fault{Mode: "503", Count: 1}, ""},
		{Fault{Mode: "refuse", Match: "order:1"}, ""},
		{Fault{Mode: "4xx"}, ""},
		{Fault{Mode: "slow", DelayMS: 1}, ""},
	} {
		r.fault(t, r.Warehouse, c.fault)
		err := r.bind(r.Handler()).Definition.Dependencies[1].Health(t.Context())
		if class := jobs.Classify(err).Class; c.class == "" && err != nil || c.class != "" && class != c.class {
			t.Errorf("%+v: %v", c.fault, err)
		}
		if err := ClearFaults(t.Context(), r.Warehouse); err != nil {
			t.Fatal(err)
		}
	}
}
