package perdure

import (
	"context"
	"errors"
	"time"

	"github.com/hibiken/asynq"

	"github.com/perdure/perdure/jobs"
)

// FromAsynq adapts an asynq handler, an asynq.ServeMux for example, to be a
// worker's Fallback: it runs every kind that has no handler of its own, as one
// piece and without steps unless it takes them from its context.
//
// asynq.SkipRetry quarantines the job, asynq.RevokeTask cancels it. asynq's
// context functions (GetTaskID and so on) and Task.ResultWriter are bound to
// asynq's own server and find nothing here: use [jobs.Current], and return a
// result from a kind of your own. A stock producer's MaxRetry bounds the retries.
// The options are those of a kind.
func FromAsynq(h asynq.Handler, options ...jobs.Option) jobs.Handler {
	patient := jobs.Retry(jobs.Exponential(5*time.Second, time.Hour, 10_000)) // the producer's MaxRetry is the bound
	kind := jobs.Define[[]byte, []byte]("asynq", append([]jobs.Option{patient}, options...)...)
	run := func(ctx context.Context, payload []byte) ([]byte, error) {
		about, _ := jobs.Current(ctx)
		err := h.ProcessTask(ctx, asynq.NewTaskWithHeaders(about.Kind, payload, about.Headers))
		switch {
		case errors.Is(err, asynq.RevokeTask):
			return nil, jobs.CancelJob("revoked by its handler: " + err.Error())
		case errors.Is(err, asynq.SkipRetry):
			return nil, jobs.Permanent(err)
		}
		return nil, err
	}
	return jobs.NewHandler(kind.Definition(), run, nil)
}
