package orders

import (
	"context"
	"time"

	"github.com/perdure/perdure/jobs"
)

// Fulfil is the kind: shared by whoever takes orders and by the worker.
var Fulfil = jobs.Define[Order, Shipment]("order.fulfil",
	jobs.Queue("orders"),
	jobs.Retry(jobs.Exponential(200*time.Millisecond, 5*time.Second, 12)),
	jobs.RetryClass(jobs.ClassUnavailable, jobs.Exponential(200*time.Millisecond, 5*time.Second, 10_000)),
	jobs.Needs("payments", "warehouse", "mail"),
	jobs.Timeout(time.Minute),
	jobs.StepTimeout(2*time.Second))

// Handler binds the kind to the services.
func (s Services) Handler() jobs.Handler { return Fulfil.Do(s.Fulfil) }

// Fulfil takes an order through its five steps. It is an ordinary function: when
// it is run again, steps that have ended give their recorded output at once.
func (s Services) Fulfil(ctx context.Context, o Order) (Shipment, error) {
	shipment := Shipment{Order: o.ID}
	if _, err := jobs.Step(ctx, "validate", func(context.Context) (int, error) { return o.TotalCents, o.Validate() }); err != nil {
		return shipment, err
	}
	for _, step := range []struct {
		name, url string
		receipt   *string
	}{
		{"charge", s.Payments + "/charge", &shipment.Payment},
		{"reserve", s.Warehouse + "/reserve", &shipment.Reservation},
		{"label", s.Warehouse + "/label", &shipment.Label},
		{"send", s.Mail + "/send", &shipment.Mail},
	} {
		receipt, err := jobs.Step(ctx, step.name, func(ctx context.Context) (string, error) { return s.post(ctx, step.url, o) })
		if err != nil {
			return shipment, err
		}
		*step.receipt = receipt
	}
	return shipment, nil
}
