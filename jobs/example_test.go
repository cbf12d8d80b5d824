package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/perdure/perdure/jobs"
)

type Order struct{ ID string }

type Receipt struct{ Number string }

// Fulfil is shared by producer and worker.
var Fulfil = jobs.Define[Order, Receipt]("order.fulfil",
	jobs.Queue("orders"),
	jobs.Retry(jobs.Exponential(time.Second, 5*time.Minute, 12)),
	jobs.Needs("payments"))

func ExampleDefine() {
	d := Fulfil.Definition()
	fmt.Println(d.Name, d.Queue, d.Retry.Attempts(), d.Needs, Fulfil.Err())
	// Output: order.fulfil orders 12 [payments] <nil>
}

func ExampleKind_New() {
	job := Fulfil.New("order:1042", Order{ID: "1042"}, jobs.Delay(time.Minute), jobs.Tenant("acme"))
	fmt.Println(job.Key, job.Queue, job.Delay, job.Err())
	fmt.Println(Fulfil.New("no spaces, please", Order{}).Err())
	// Output:
	// order:1042 orders 1m0s <nil>
	// key "no spaces, please": must be 1 to 255 of A-Z a-z 0-9 . _ : @ + = ~ -, beginning with a letter or digit
}

func ExampleStep() {
	handler := Fulfil.Do(func(ctx context.Context, o Order) (Receipt, error) {
		return jobs.Step(ctx, "charge", func(ctx context.Context) (Receipt, error) {
			fmt.Println("charging", o.ID)
			return Receipt{Number: "r-" + o.ID}, nil
		})
	})
	recorded := newMemory(handler.Definition)
	for range 2 { // the second execution finds the step recorded
		recorded.again()
		result, err := handler.Run(jobs.WithAttempt(context.Background(), recorded), []byte(`{"ID":"7"}`))
		fmt.Println(string(result), err)
	}
	// Output:
	// charging 7
	// {"Number":"r-7"} <nil>
	// {"Number":"r-7"} <nil>
}

func ExampleHeartbeat() {
	importRows := func(ctx context.Context) (int, error) {
		row, _, err := jobs.Progress[int](ctx) // 0 the first time
		for ; err == nil && row < 1000; row++ {
			if row%100 == 99 {
				err = jobs.Heartbeat(ctx, row+1)
			}
		}
		return row, err
	}
	m := newMemory(plain.Definition())
	rows, err := jobs.Step(jobs.WithAttempt(context.Background(), m), "import", importRows)
	fmt.Println(rows, err)
	// Output: 1000 <nil>
}

func ExamplePermanent() {
	err := jobs.Permanent(errors.New("no such account"))
	fmt.Println(jobs.Classify(err).Class, err)
	// Output: invalid no such account
}

func ExampleRetryAfter() {
	c := jobs.Classify(jobs.RetryAfter(90*time.Second, errors.New("busy")))
	fmt.Println(c.Class, c.Wait)
	// Output: throttled 1m30s
}

func ExamplePause() {
	c := jobs.Classify(jobs.Pause("payments", errors.New("maintenance")))
	fmt.Println(c.Class, c.On)
	// Output: unavailable payments
}

func ExampleWithClass() {
	c := jobs.Classify(jobs.WithClass(jobs.ClassTransient, errors.New("row locked")))
	fmt.Println(c.Class)
	// Output: transient
}

func ExampleCheckResponse() {
	resp := &http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"3"}}}
	c := jobs.Classify(jobs.CheckResponse(resp))
	fmt.Println(c.Class, c.Rule, c.Wait)
	// Output: throttled http 429 with Retry-After 3s
}

func ExampleDelays() {
	s := jobs.Delays(time.Second, time.Minute)
	for used := 1; ; used++ {
		wait, more := s.Next(used)
		if !more {
			break
		}
		fmt.Println(wait)
	}
	// Output:
	// 1s
	// 1m0s
}

func ExampleMiddleware() {
	logged := func(next jobs.Next) jobs.Next {
		return func(ctx context.Context) error {
			about, _ := jobs.Current(ctx)
			err := next(ctx)
			slog.Debug("ran", "job", about.Key, "error", err)
			return err
		}
	}
	handler := Fulfil.Do(func(context.Context, Order) (Receipt, error) { return Receipt{}, nil }, logged)
	fmt.Println(handler.Definition.Name)
	// Output: order.fulfil
}
