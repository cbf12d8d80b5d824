package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

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

func ExampleContinueAs() {
	crawl := jobs.Define[int, int]("pages.crawl").Do(func(ctx context.Context, page int) (int, error) {
		next, err := jobs.Step(ctx, "page", func(context.Context) (int, error) { fmt.Println("page", page); return page + 1, nil })
		if err != nil || next > 3 {
			return page, err
		}
		return 0, jobs.ContinueAs(next) // what is recorded of this round is forgotten
	})
	t := &testing.T{} // of your test
	job := jobstest.New(t, crawl, 1)
	fmt.Println(job.Run().State, job.Rounds(), job.Steps())
	// Output:
	// page 1
	// page 2
	// page 3
	// completed 2 [page]
}

type (
	personV1 struct{ Name string }
	personV2 struct{ First, Last string }
)

func ExampleMigrate() {
	greet := jobs.Define[personV2, string]("person.greet", jobs.Version(2),
		jobs.Migrate(1, func(p personV1) (personV2, error) {
			first, last, ok := strings.Cut(p.Name, " ")
			if !ok {
				return personV2{}, errors.New("no last name")
			}
			return personV2{first, last}, nil
		})).Do(func(_ context.Context, p personV2) (string, error) { return "Dear " + p.First, nil })
	t := &testing.T{} // of your test
	var result string
	err := jobstest.NewOld(t, greet, 1, personV1{"Ada Lovelace"}).Run().Result(&result)
	fmt.Println(result, err)
	// Output: Dear Ada <nil>
}

func ExampleSleep() {
	remind := jobs.Define[string, string]("order.remind").Do(func(ctx context.Context, _ string) (string, error) {
		if err := jobs.Sleep(ctx, "week", 7*24*time.Hour); err != nil {
			return "", err // parked: no slot is held meanwhile
		}
		return "reminded", nil
	})
	t := &testing.T{} // of your test
	job := jobstest.New(t, remind, "")
	fmt.Println(job.Run().State, job.Elapsed())
	// Output: completed 168h0m0s
}
