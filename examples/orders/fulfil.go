package orders

import (
	"context"
	"time"

	"github.com/perdure/perdure/jobs"
)

// Fulfil is the kind of job that fulfils an order. Its schedules are short, for
// watching; while a service is unavailable it waits for as long as it takes.
var Fulfil = jobs.Define[Order, Shipment]("order.fulfil",
	jobs.Queue("orders"),
	jobs.Retry(jobs.Exponential(200*time.Millisecond, 5*time.Second, 12)),
	jobs.RetryClass(jobs.ClassUnavailable, jobs.Exponential(200*time.Millisecond, 5*time.Second, 10000)),
	jobs.Needs(payments.Name, warehouse.Name, mailing.Name),
	jobs.Describe(payments), jobs.Describe(warehouse), jobs.Describe(mailing),
	jobs.Timeout(time.Minute),
	jobs.StepTimeout(2*time.Second),
)

// Handler runs orders.
func (s Services) Handler() jobs.Handler { return s.bind(Fulfil.Do(s.Fulfil)) }

// Handlers are what a worker runs: orders, deliveries and batches of orders.
func (s Services) Handlers() []jobs.Handler {
	return []jobs.Handler{s.Handler(), s.bind(Deliver.Do(s.Deliver)), s.bind(Import.Do(s.Import)), Dispatch.Do(s.Dispatch)}
}

// Fulfil runs one order: an ordinary function in which each step runs once and is
// remembered.
func (s Services) Fulfil(ctx context.Context, o Order) (Shipment, error) {
	shipment := Shipment{Order: o.ID}
	_, err := jobs.Step(ctx, "validate", func(context.Context) (Parcel, error) { return pack(o) })
	if err != nil {
		return Shipment{}, err
	}
	steps := []struct {
		name    string
		call    serviceCall
		of      jobs.Dependency
		receipt *string
	}{
		{"charge", s.charge, payments, &shipment.Payment},
		{"reserve", s.reserve, warehouse, &shipment.Reservation},
		{"label", s.label, warehouse, &shipment.Label},
		{"send", s.send, mailing, &shipment.Mail},
	}
	for _, step := range steps {
		*step.receipt, err = jobs.Step(ctx, step.name, func(ctx context.Context) (string, error) { return step.call(ctx, o) }, s.needs(step.of))
		if err != nil {
			return Shipment{}, err
		}
	}
	return shipment, nil
}

// Parcel is what the step "validate" finds out: how much goes how far.
type Parcel struct {
	Pieces int    `json:"pieces"`
	Zone   string `json:"zone"` // "home", "europe" or "world"
}

const maxPieces = 2000

// pack refuses what does not fit into one parcel; no try will make it smaller.
func pack(o Order) (Parcel, error) {
	p := Parcel{Zone: zone(o.Country)}
	for _, item := range o.Items {
		p.Pieces += item.Quantity
	}
	return p, within("pieces", p.Pieces, 1, maxPieces)
}

func zone(country string) string {
	switch country {
	case "DE":
		return "home"
	case "AT", "BE", "CZ", "DK", "ES", "FI", "FR", "GR", "IE", "IT", "NL", "PL", "PT", "SE":
		return "europe"
	default:
		return "world"
	}
}
