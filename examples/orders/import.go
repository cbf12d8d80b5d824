package orders

import (
	"context"
	"fmt"
	"time"

	"github.com/perdure/perdure/jobs"
)

// Batch is a part of orders.csv, and the payload of [Import].
type Batch struct {
	First int `json:"first"` // line, the first order being 1
	Lines int `json:"lines"` // how many
}

const csvLines = 3000

// Validate returns a *[jobs.InvalidError] for a batch that is not in the file.
func (b Batch) Validate() error {
	if err := within("first", b.First, 1, csvLines); err != nil {
		return err
	}
	return within("lines", b.Lines, 1, csvLines+1-b.First)
}

// Imported is what became of a batch.
type Imported struct {
	Lines int    `json:"lines"`
	Last  string `json:"last"` // the last order
}

// Import is the kind of job that reserves the goods of a whole batch of orders: one
// long step, which saves how far it is after each line.
var Import = jobs.Define[Batch, Imported]("order.import",
	jobs.Queue("orders"),
	jobs.Retry(jobs.Exponential(200*time.Millisecond, 5*time.Second, 12)),
	jobs.RetryClass(jobs.ClassUnavailable, jobs.Exponential(200*time.Millisecond, 5*time.Second, 10000)),
	jobs.Needs(warehouse.Name),
	jobs.Timeout(10*time.Minute),
)

// Import runs one batch. An execution that follows another, for whatever reason,
// goes on after the last line that was saved.
func (s Services) Import(ctx context.Context, b Batch) (Imported, error) {
	list, err := Sample()
	if err != nil {
		return Imported{}, err
	}
	list = list[b.First-1:][:b.Lines]
	return jobs.Step(ctx, "lines", func(ctx context.Context) (Imported, error) {
		done, _, err := jobs.Progress[int](ctx)
		if err != nil {
			return Imported{}, err
		}
		for ; done < len(list); done++ {
			if _, err := s.reserve(ctx, list[done]); err != nil {
				return Imported{}, fmt.Errorf("line %d: %w", b.First+done, err)
			}
			if err := jobs.Heartbeat(ctx, done+1); err != nil {
				return Imported{}, err
			}
		}
		return Imported{Lines: len(list), Last: list[len(list)-1].ID}, nil
	})
}
