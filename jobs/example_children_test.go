package jobs_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/perdure/perdure/jobs"
)

var Label = jobs.Define[string, string]("label.print", jobs.Queue("labels"))

// run executes a handler on what a memory remembers.
func run(m *memory, fn func(ctx context.Context) (string, error)) {
	m.again()
	handler := jobs.Define[string, string]("order.ship").Do(func(ctx context.Context, _ string) (string, error) { return fn(ctx) })
	result, err := handler.Run(jobs.WithAttempt(context.Background(), m), []byte(`""`))
	fmt.Println(string(result), errors.Is(err, jobs.ErrParked))
}

func ExampleCall() {
	m := newMemory(plain.Definition())
	ship := func(ctx context.Context) (string, error) { return jobs.Call(ctx, "label", Label, "book") }
	run(m, ship) // the child is made, and the parent parked
	m.ended["order:1~label"] = jobs.Ended{State: jobs.StateCompleted, Result: []byte(`"1Z 999"`)}
	run(m, ship) // and woken
	// Output:
	//  true
	// "1Z 999" false
}

func ExampleSpawn() {
	m := newMemory(plain.Definition())
	run(m, func(ctx context.Context) (string, error) {
		child, err := jobs.Spawn(ctx, "label", Label, "book", jobs.Detached())
		return child.Queue + "/" + child.Key, err // it goes on, and nobody waits for it
	})
	// Output: "labels/order:1~label" false
}

func ExampleCallEach() {
	m := newMemory(plain.Definition())
	books := []string{"dune", "emma"}
	ship := func(ctx context.Context) (string, error) {
		labels, err := jobs.CallEach(ctx, "labels", books, func(book string) string { return book }, Label, func(book string) string { return book })
		var failed *jobs.ChildError
		if errors.As(err, &failed) {
			return fmt.Sprintf("%q, but %v", labels, failed), nil
		}
		return fmt.Sprint(labels), err
	}
	run(m, ship)
	m.ended["order:1~labels~~dune"] = jobs.Ended{State: jobs.StateCompleted, Result: []byte(`"1Z 999"`)}
	m.ended["order:1~labels~~emma"] = jobs.Ended{State: jobs.StateQuarantined, Message: "no such address"}
	run(m, ship)
	// Output:
	//  true
	// "[\"1Z 999\" \"\"], but child labels/order:1~labels~~emma is quarantined: no such address" false
}

func ExampleChild_Result() {
	m := newMemory(plain.Definition())
	run(m, func(ctx context.Context) (string, error) {
		child, err := jobs.Spawn(ctx, "label", Label, "book")
		if err != nil {
			return "", err
		}
		if _, err := jobs.Step(ctx, "pack", func(context.Context) (string, error) { fmt.Println("packing meanwhile"); return "", nil }); err != nil {
			return "", err
		}
		return child.Result(ctx)
	})
	// Output:
	// packing meanwhile
	//  true
}
