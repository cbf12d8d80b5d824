// Package jobs is what application code sees of perdure: kinds and keys, retry
// schedules, steps and the other verbs of a durable function, errors and their
// classes, and the client's interface.
//
// A kind is defined once and shared by the producer and the worker:
//
//	var Fulfil = jobs.Define[Order, Shipment]("order.fulfil",
//		jobs.Queue("orders"),
//		jobs.Retry(jobs.Exponential(time.Second, 5*time.Minute, 12)))
//
// A producer enqueues by key (client is any [Client]); a duplicate is not an
// error:
//
//	h, err := client.Enqueue(ctx, Fulfil.New("order:1042", order))
//
// A worker runs an ordinary function made of steps. A step that has ended is
// remembered and never runs again, whatever happens to the worker:
//
//	func fulfil(ctx context.Context, o Order) (Shipment, error) {
//		receipt, err := jobs.Step(ctx, "charge", func(ctx context.Context) (Receipt, error) {
//			return payments.Charge(ctx, jobs.IdempotencyKey(ctx), o)
//		})
//		…
//	}
//
// The package imports nothing else of perdure.
package jobs
