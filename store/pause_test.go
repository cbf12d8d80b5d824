package store

import (
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Wherever a job that is to be paused turns up, the claim keeps it.
func TestAClaimKeepsAJobThatIsToBePaused(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]func(*fixture, delivery.Delivery){
		"handed back": func(f *fixture, d delivery.Delivery) { f.settle(d, delivery.HandBack) },
		"crashed":     func(f *fixture, _ delivery.Delivery) { _, err := f.Reclaim(f.ctx, "q", "o"); f.ok(err) },
		"retried": func(f *fixture, d delivery.Delivery) {
			f.settle(d, delivery.Retry)
			f.due("k")
			_, err := f.Promote(f.ctx, "q")
			f.ok(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			d := f.running("k")
			_, err := f.Pause(f.ctx, "q", "k", why)
			f.ok(err)
			back(f, d)
			f.enqueue("l")
			batch, err := f.Claim(f.ctx, "q", "p", 5)
			f.ok(err)
			if len(batch.Deliveries) != 1 || batch.Deliveries[0].Key != "l" || batch.Suspects != 0 || batch.Dropped != 0 {
				t.Fatalf("claimed %+v", batch)
			}
			info, err := f.Get(f.ctx, "q", "k")
			f.ok(err)
			if info.State != jobs.StatePaused || info.WaitingOn.Type != "operator" || info.WaitingOn.Name != "ada: because" {
				t.Fatalf("%+v", info)
			}
			task, err := f.inspector().GetTaskInfo("q", "k")
			f.ok(err)
			if want := "paused: by an operator, until it is resumed"; task.LastErr != want || task.NextProcessAt.Year() != 2100 {
				t.Errorf("asynq shows %q, next at %v", task.LastErr, task.NextProcessAt)
			}
		})
	}
}

func TestAResumedJobGoesOnWhenItWouldHave(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.enqueue("soon", jobs.Delay(time.Hour))
	f.enqueue("late", jobs.Delay(time.Hour))
	before, err := f.Get(f.ctx, "q", "soon")
	f.ok(err)
	for _, key := range []string{"soon", "late"} {
		_, err := f.Pause(f.ctx, "q", key, why)
		f.ok(err)
	}
	f.rdb.HSet(f.ctx, taskKey("q", "late"), "p:back", "scheduled 1000") // its time has come meanwhile
	for key, want := range map[string]jobs.State{"soon": jobs.StateScheduled, "late": jobs.StatePending} {
		info, err := f.Resume(f.ctx, "q", key, why)
		f.ok(err)
		if info.State != want || key == "soon" && !info.DueAt.Equal(before.DueAt) {
			t.Errorf("%s is %+v, want %s, due %v", key, info, want, before.DueAt)
		}
	}
}
