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

func delivery(t *testing.T, cents int) Delivery {
	t.Helper()
	d := Delivery{Order: sampleOrder(t), Within: jobs.Span(72 * time.Hour)}
	d.Items = []Item{{"LAMP-014", "Desk lamp, brass", 1, cents}}
	d.TotalCents = cents
	return d
}

func TestDeliver(t *testing.T) {
	shipped := map[string]int{"/charge": 1, "/reserve": 1, "/label": 1, "/invoice": 1, "/send": 1}
	undone := func(effects map[string]int) map[string]int {
		effects = maps.Clone(effects)
		effects["/refund"], effects["/release"] = 1, 1
		return effects
	}
	for _, c := range []struct {
		name    string
		cents   int
		prepare func(r *rig, j *jobstest.Job)
		timeOut bool
		state   jobs.State
		effects map[string]int
	}{
		{"delivered", 100, func(_ *rig, j *jobstest.Job) { j.Signal("delivered", "Ada") }, false, jobs.StateCompleted, shipped},
		{"on its way", 100, func(*rig, *jobstest.Job) {}, false, jobs.StatePaused, shipped},
		{"lost by the carrier", 100, func(*rig, *jobstest.Job) {}, true, jobs.StateQuarantined, undone(shipped)},
		{"large, nobody has approved yet", ApproveAbove + 1, func(*rig, *jobstest.Job) {}, false, jobs.StatePaused, map[string]int{}},
		{"large and approved", ApproveAbove + 1, func(_ *rig, j *jobstest.Job) {
			j.Signal("amount", jobs.Approval{Approved: true, Actor: "ada", Reason: "a good customer"})
			j.Signal("delivered", "Ada")
		}, false, jobs.StateCompleted, shipped},
		{"large and denied", ApproveAbove + 1, func(_ *rig, j *jobstest.Job) {
			j.Signal("amount", jobs.Approval{Actor: "ada", Reason: "not paid before"})
		}, false, jobs.StateCancelled, map[string]int{}},
		{"no label can be made", 100, func(r *rig, _ *jobstest.Job) {
			r.fault(t, r.Warehouse, Fault{Mode: "4xx", Path: "/label"})
		}, false, jobs.StateQuarantined, map[string]int{"/charge": 1, "/reserve": 1, "/invoice": 1, "/refund": 1, "/release": 1}},
		{"the label printer is jammed", 100, func(r *rig, j *jobstest.Job) {
			r.fault(t, r.Warehouse, Fault{Mode: "500", Path: "/label", Count: 2})
			j.Signal("delivered", "Ada")
		}, false, jobs.StateCompleted, shipped},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			job := jobstest.New(t, Deliver.Do(r.Deliver), delivery(t, c.cents))
			c.prepare(r, job)
			o := job.Run()
			if c.timeOut {
				job.TimeOut()
				o = job.Run()
			}
			if got := r.count(t, "effect"); o.State != c.state || !maps.Equal(got, c.effects) {
				t.Errorf("%s (%s, %v): effects %v, want %s and %v", o.State, o.Reason, o.Err, got, c.state, c.effects)
			}
		})
	}
}

func TestADeliverySurvivesACrashAnywhere(t *testing.T) {
	for name, options := range map[string][]jobstest.Option{"in memory": nil, "on Redis": {onredis.Use(redistest.Client(t))}} {
		for _, ending := range []string{"delivered", "refused"} {
			t.Run(name+", "+ending, func(t *testing.T) {
				jobstest.CrashEverywhere(t, func() jobstest.World {
					r := newRig(t)
					return jobstest.World{
						Handler: Deliver.Do(r.Deliver), Payload: delivery(t, ApproveAbove+1),
						Effects: func() any { return r.count(t, "effect") },
						Prepare: func(j *jobstest.Job) {
							j.Signal("amount", jobs.Approval{Approved: true, Actor: "ada", Reason: "a good customer"})
							j.Signal("delivered", "Ada")
							if ending == "refused" {
								r.fault(t, r.Mail, Fault{Mode: "4xx", Path: "/send"})
							}
						},
					}
				}, options...)
			})
		}
	}
}

func TestADispatchSurvivesACrashAnywhere(t *testing.T) {
	jobstest.CrashEverywhere(t, func() jobstest.World {
		r := newRig(t)
		return jobstest.World{
			Handler: Dispatch.Do(r.Dispatch), Payload: Batch{First: 1, Lines: 2}, Children: []jobs.Handler{r.Handler()},
			Effects: func() any { return r.count(t, "effect") },
		}
	})
}

func TestADeliveryOutOfBounds(t *testing.T) {
	d := delivery(t, 100)
	d.Within = jobs.Span(time.Millisecond)
	if err := d.Validate(); err == nil || err.Error() != "within 1ms: must be from 1s to 720h" {
		t.Error(err)
	}
	d = delivery(t, 100)
	d.TotalCents++
	if err := d.Validate(); err == nil {
		t.Error("a wrong total is accepted")
	}
}
