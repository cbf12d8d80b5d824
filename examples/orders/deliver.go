package orders

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/jobs"
)

// Delivery is an order that is followed until the customer has it, and the payload of
// [Deliver].
type Delivery struct {
	Order
	Within jobs.Span `json:"within"` // how long the carrier may take: 1 s to 30 days
}

// Validate returns a *[jobs.InvalidError] for the first field that is out of bounds.
func (d Delivery) Validate() error {
	if err := d.Order.Validate(); err != nil {
		return err
	}
	if within := time.Duration(d.Within); within < time.Second || within > 30*24*time.Hour {
		return invalid("within", d.Within, "from 1s to 720h")
	}
	return nil
}

// ApproveAbove is the amount above which somebody has to approve of a delivery.
const ApproveAbove = 1_000_000 // cents

// Delivered is what became of a delivery.
type Delivered struct {
	Shipment
	Invoice string `json:"invoice"`
	To      string `json:"to"` // who has signed for it
}

// Deliver is the kind of job that fulfils an order and sees it to the customer. What
// it has done is taken back when it is cancelled or fails for good.
var Deliver = jobs.Define[Delivery, Delivered]("order.deliver",
	jobs.Queue("orders"),
	jobs.Retry(jobs.Exponential(200*time.Millisecond, 5*time.Second, 5)),
	jobs.RetryClass(jobs.ClassUnavailable, jobs.Exponential(200*time.Millisecond, 5*time.Second, 10000)),
	jobs.Needs(payments.Name, warehouse.Name, mailing.Name),
	jobs.Timeout(time.Minute),
	jobs.StepTimeout(2*time.Second),
)

// errNotDelivered ends a delivery that has taken too long.
var errNotDelivered = errors.New("the carrier did not deliver in time")

// Deliver runs one delivery. A large one waits for an approval; label and invoice are
// made side by side; then it waits for the carrier's word.
func (s Services) Deliver(ctx context.Context, d Delivery) (Delivered, error) {
	if err := approved(ctx, d.Order); err != nil {
		return Delivered{}, err
	}
	done := Delivered{Shipment: Shipment{Order: d.ID}}
	var err error
	if done.Payment, err = s.reversible(ctx, "charge", payments, s.charge, s.refund, d.Order); err != nil {
		return Delivered{}, err
	}
	if done.Reservation, err = s.reversible(ctx, "reserve", warehouse, s.reserve, s.release, d.Order); err != nil {
		return Delivered{}, err
	}
	err = jobs.Parallel(ctx, []jobs.Branch{
		jobs.Go("label", &done.Label, func(ctx context.Context) (string, error) { return s.label(ctx, d.Order) }, s.needs(warehouse)),
		jobs.Go("invoice", &done.Invoice, func(ctx context.Context) (string, error) { return s.invoice(ctx, d.Order) }, s.needs(mailing)),
	}, jobs.CollectAll())
	if err != nil {
		return Delivered{}, err
	}
	if done.Mail, err = jobs.Step(ctx, "send", func(ctx context.Context) (string, error) { return s.send(ctx, d.Order) }, s.needs(mailing)); err != nil {
		return Delivered{}, err
	}
	done.To, err = jobs.Await[string](ctx, "delivered", time.Duration(d.Within))
	if errors.Is(err, jobs.ErrTimedOut) {
		return Delivered{}, jobs.Permanent(errNotDelivered)
	}
	return done, err
}

// approved waits for somebody's word on a large order.
func approved(ctx context.Context, o Order) error {
	if o.TotalCents <= ApproveAbove {
		return nil
	}
	a, err := jobs.AwaitApproval(ctx, "amount", 72*time.Hour)
	if err == nil && !a.Approved {
		err = jobs.CancelJob(fmt.Sprintf("%s did not approve: %s", a.Actor, a.Reason))
	}
	return err
}

// serviceCall asks a service to do something for an order.
type serviceCall func(context.Context, Order) (string, error)

// reversible is a step that a service can take back.
func (s Services) reversible(ctx context.Context, name string, of jobs.Dependency, do, undo serviceCall, o Order) (string, error) {
	return jobs.Step(ctx, name, func(ctx context.Context) (string, error) { return do(ctx, o) }, s.needs(of),
		jobs.Compensate(func(ctx context.Context, _ string) error {
			_, err := undo(ctx, o)
			return err
		}))
}

func (s Services) refund(ctx context.Context, o Order) (string, error) {
	return s.post(ctx, s.Payments, "/refund", o)
}

func (s Services) release(ctx context.Context, o Order) (string, error) {
	return s.post(ctx, s.Warehouse, "/release", o)
}

func (s Services) invoice(ctx context.Context, o Order) (string, error) {
	return s.post(ctx, s.Mail, "/invoice", o)
}

// Dispatch is the kind of job that fulfils a batch of orders, each as a child of its
// own, and waits for all of them.
var Dispatch = jobs.Define[Batch, Imported]("order.dispatch", jobs.Queue("orders"), jobs.Retry(jobs.Exponential(200*time.Millisecond, 5*time.Second, 12)))

// Dispatch runs one batch. The children are in the queue of the batch's.
func (s Services) Dispatch(ctx context.Context, b Batch) (Imported, error) {
	list, err := Sample()
	if err != nil {
		return Imported{}, err
	}
	list = list[b.First-1:][:b.Lines]
	about, _ := jobs.Current(ctx)
	shipped, err := jobs.CallEach(ctx, "orders", list, func(o Order) string { return o.ID }, Fulfil, func(o Order) Order { return o }, jobs.Queue(about.Queue))
	if err != nil {
		return Imported{}, err
	}
	return Imported{Lines: len(shipped), Last: shipped[len(shipped)-1].Order}, nil
}
