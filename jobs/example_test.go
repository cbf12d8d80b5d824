package jobs_test

import (
	"context"
	"errors"
	"fmt"
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
			fmt.Println("ran", about.Key, "error:", err)
			return err
		}
	}
	handler := Fulfil.Do(func(context.Context, Order) (Receipt, error) { return Receipt{}, nil }, logged)
	attempt := newMemory(handler.Definition)
	_, err := handler.Run(jobs.WithAttempt(context.Background(), attempt), []byte(`{"ID":"7"}`))
	fmt.Println(err)
	// Output:
	// ran order:1 error: <nil>
	// <nil>
}

func ExampleKind_Do() {
	// The function is an ordinary one: a test calls it as such. A worker is given
	// the handler.
	handler := Fulfil.Do(func(_ context.Context, o Order) (Receipt, error) {
		if o.ID == "" {
			return Receipt{}, jobs.Permanent(errors.New("an order without an id"))
		}
		return Receipt{Number: "r-" + o.ID}, nil
	})
	for _, payload := range []string{`{"ID":"7"}`, `{}`, `{"ID":7}`} {
		result, err := handler.Run(context.Background(), []byte(payload))
		fmt.Println(string(result), err != nil, errors.Is(err, jobs.ErrInvalid))
	}
	// Output:
	// {"Number":"r-7"} false false
	//  true false
	//  true true
}

func ExampleExponential() {
	// Up to 1s, 2s, 4s and so on, at most 30s, drawn anew each time; ten attempts.
	s := jobs.Exponential(time.Second, 30*time.Second, 10)
	fifth, more := s.Next(5)
	fmt.Println(fifth > 0 && fifth <= 16*time.Second, more)
	_, more = s.Next(10)
	fmt.Println(more)
	// Output:
	// true true
	// false
}

func ExampleFixed() {
	s := jobs.Fixed(15*time.Second, 3)
	for used := 1; used <= s.Attempts(); used++ {
		fmt.Println(s.Next(used))
	}
	// Output:
	// 15s true
	// 15s true
	// 0s false
}

func ExampleIdempotencyKey() {
	handler := Fulfil.Do(func(ctx context.Context, _ Order) (Receipt, error) {
		return jobs.Step(ctx, "charge", func(ctx context.Context) (Receipt, error) {
			fmt.Println("Idempotency-Key:", jobs.IdempotencyKey(ctx))
			return Receipt{}, errors.New("connection lost, charged or not")
		})
	})
	attempt := newMemory(handler.Definition)
	for range 2 { // the step did not end, so it runs again, with the same key
		attempt.again()
		_, err := handler.Run(jobs.WithAttempt(context.Background(), attempt), []byte(`{"ID":"7"}`))
		fmt.Println(err)
	}
	// Output:
	// Idempotency-Key: CpmHVqg4y7zu8x7GhWhwGsVuZeGizTwSRnhZV9z5NbQ
	// step "charge": connection lost, charged or not
	// Idempotency-Key: CpmHVqg4y7zu8x7GhWhwGsVuZeGizTwSRnhZV9z5NbQ
	// step "charge": connection lost, charged or not
}

func ExampleProgress() {
	importRows := func(ctx context.Context) (int, error) {
		row, found, err := jobs.Progress[int](ctx)
		fmt.Println("from row", row, found)
		for ; err == nil && row < 1000; row++ {
			if row == 500 && !found {
				return 0, errors.New("the file server went away")
			}
			if row%100 == 0 {
				err = jobs.Heartbeat(ctx, row)
			}
		}
		return row, err
	}
	attempt := newMemory(Fulfil.Definition())
	for range 2 {
		attempt.again()
		fmt.Println(jobs.Step(jobs.WithAttempt(context.Background(), attempt), "import", importRows))
	}
	// Output:
	// from row 0 false
	// 0 step "import": the file server went away
	// from row 400 true
	// 1000 <nil>
}

func ExampleParallel() {
	kind := jobs.Define[string, string]("order.ship")
	handler := kind.Do(func(ctx context.Context, order string) (string, error) {
		var label, invoice string
		err := jobs.Parallel(ctx, []jobs.Branch{
			jobs.Go("label", &label, func(context.Context) (string, error) { return "label of " + order, nil }),
			jobs.Go("invoice", &invoice, func(context.Context) (string, error) { return "invoice of " + order, nil }),
		})
		return label + ", " + invoice, err
	})
	result, err := handler.Run(jobs.WithAttempt(context.Background(), newMemory(kind.Definition())), []byte(`"order:1"`))
	fmt.Println(string(result), err)
	// Output: "label of order:1, invoice of order:1" <nil>
}

func ExampleMap() {
	kind := jobs.Define[[]string, []int]("order.weigh")
	handler := kind.Do(func(ctx context.Context, items []string) ([]int, error) {
		key := func(item string) string { return item }
		return jobs.Map(ctx, "weigh", items, key, func(_ context.Context, item string) (int, error) { return len(item), nil }, jobs.AtMost(4))
	})
	result, err := handler.Run(jobs.WithAttempt(context.Background(), newMemory(kind.Definition())), []byte(`["pen","paper"]`))
	fmt.Println(string(result), err)
	// Output: [3,5] <nil>
}
