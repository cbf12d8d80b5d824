package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/jobs/jobstest"
)

func ExampleCompensate() {
	handler := jobs.Define[int, string]("order.pay").Do(func(ctx context.Context, amount int) (string, error) {
		_, err := jobs.Step(ctx, "charge",
			func(context.Context) (string, error) { fmt.Println("charge", amount); return "ch-1", nil },
			jobs.Compensate(func(_ context.Context, charge string) error { fmt.Println("refund", charge); return nil }))
		if err != nil {
			return "", err
		}
		return jobs.Step(ctx, "reserve", func(context.Context) (string, error) {
			return "", jobs.Permanent(errors.New("sold out"))
		})
	})
	t := &testing.T{} // of your test
	outcome := jobstest.New(t, handler, 40).Run()
	fmt.Println(outcome.State)
	// Output:
	// charge 40
	// refund ch-1
	// quarantined
}
