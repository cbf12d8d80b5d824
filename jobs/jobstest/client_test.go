package jobstest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/jobs/jobstest"
)

var mail = jobs.Define[string, string]("mail", jobs.Queue("mails"))

// accept is code of an application that enqueues.
func accept(ctx context.Context, c jobs.Client, order string, paid bool) error {
	if !paid {
		return nil
	}
	_, err := c.Enqueue(ctx, mail.New("mail:"+order, "thank you"))
	return err
}

func ExampleClient() {
	t := &testing.T{} // of your test
	client := jobstest.NewClient()
	fmt.Println(accept(context.Background(), client, "1", true), accept(context.Background(), client, "2", false))
	fmt.Printf("%s\n", client.WantEnqueued(t, "mail", "mail:1").Payload)
	client.WantNotEnqueued(t, "mail", "mail:2")
	// Output:
	// <nil> <nil>
	// "thank you"
}

func TestClientAcceptsAsRedisDoes(t *testing.T) {
	t.Parallel()
	ctx, c := t.Context(), jobstest.NewClient()
	first, err := c.Enqueue(ctx, mail.New("k", "a"))
	if err != nil || first.Duplicate || first.State != jobs.StatePending {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := c.Enqueue(ctx, mail.New("k", "a")); err != nil || !again.Duplicate || again.Incarnation != first.Incarnation {
		t.Errorf("%+v, %v", again, err)
	}
	many := c.EnqueueMany(ctx, []jobs.Job{mail.New("k", "b"), mail.New("", "a"), mail.New("later", "a", jobs.Delay(time.Hour))})
	if !errors.Is(many[0].Err, jobs.ErrOtherPayload) || !errors.Is(many[1].Err, jobs.ErrInvalid) || many[2].Handle.State != jobs.StateScheduled {
		t.Errorf("%+v", many)
	}
	by := jobs.Decision{Actor: "ada", Reason: "because"}
	if i, err := c.Pause(ctx, "mails", "k", by); err != nil || i.State != jobs.StatePaused {
		t.Errorf("%+v, %v", i, err)
	}
	if i, err := c.Resume(ctx, "mails", "k", by); err != nil || i.State != jobs.StatePending {
		t.Errorf("%+v, %v", i, err)
	}
	if _, err := c.Resume(ctx, "mails", "k", by); !errors.Is(err, jobs.ErrConflict) {
		t.Error(err)
	}
	if err := c.Signal(ctx, "mails", "k", jobs.Signal{Name: "go"}); err != nil {
		t.Error(err)
	}
	if i, err := c.Cancel(ctx, "mails", "k", by); err != nil || i.State != jobs.StateCancelled {
		t.Errorf("%+v, %v", i, err)
	}
	if i, err := first.Wait(ctx); err != nil || i.State != jobs.StateCancelled {
		t.Errorf("%+v, %v", i, err)
	}
	if _, err := c.Pause(ctx, "mails", "k", by); !errors.Is(err, jobs.ErrConflict) {
		t.Error(err)
	}
	if _, err := c.Get(ctx, "mails", "other"); !errors.Is(err, jobs.ErrNotFound) {
		t.Error(err)
	}
	page, err := c.List(ctx, jobs.Query{State: jobs.StateScheduled})
	if err != nil || len(page.Jobs) != 1 || page.Jobs[0].Key != "later" {
		t.Errorf("%+v, %v", page, err)
	}
	found := &recorder{TB: t}
	c.WantNotEnqueued(found, "mail", "")
	if len(found.errors) != 2 {
		t.Errorf("%q", found.errors)
	}
}

func TestASlowDependency(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[string, string]("slow", jobs.StepTimeout(time.Minute), jobs.Retry(jobs.Fixed(time.Second, 2)))
	job := jobstest.New(t, kind.Do(both("a", "b")), "")
	job.Slow("a", 30*time.Second)
	if o := job.Run(); o.State != jobs.StateCompleted || job.Elapsed() != 30*time.Second {
		t.Errorf("%+v after %v", o, job.Elapsed())
	}
	job = jobstest.New(t, kind.Do(both("a", "b")), "")
	job.Slow("b", time.Hour)
	if o := job.Run(); o.State != jobs.StateQuarantined || o.Failures[0].Class != jobs.ClassTimeout || o.Failures[0].Step != "b" || job.Elapsed() != 2*time.Minute+time.Second {
		t.Errorf("%+v after %v", o, job.Elapsed())
	}
}
