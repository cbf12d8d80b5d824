package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/jobs"
)

var scenarios = []scenario{
	{"duplicate-request", "100 concurrent requests with one key make one job and one effect at each service", duplicateRequest},
	{"slow-api", "a step times out, its retry is scheduled and succeeds; finished steps are not repeated", slowAPI},
	{"bad-input", "an order that a service refuses (422) is quarantined at once, with its story", badInput},
	{"partial-failure", "step 3 of 5 fails twice; the steps before it run once", partialFailure},
	{"services-disagree", "the payment went through but its reply was lost: charged once all the same", servicesDisagree},
	{"parallel-partial-failure", "of two steps side by side one fails twice: the other one runs once, and so does what came before", parallelPartialFailure},
	{"approval", "large orders wait for somebody's word without a slot: approved, one is delivered; denied, the other is cancelled and charged nothing", approval},
	{"compensation", "no label can be made: goods are released and the payment is refunded, once; replayed, the order is charged anew", compensation},
	{"durable-sleep", "an order waits for its carrier while its workers are killed: its timer ends within a second in another one, and it is refunded", withCrew(2, durableSleep)},
	{"fan-out", "a batch of 80 orders as children, a worker killed among them: each is fulfilled once, and the parent is woken once", withCrew(3, fanOut)},
	{"dead-letter-replay", "thirty orders that a service refused are replayed once it is mended: 1, then 10, then the others, each from its failed step", deadLetterReplay},
	{"replay-stops-on-same-failure", "a replay of orders that are still refused stops after the first; mended and resumed, it comes to its end", replayStops},
	{"worker-crash", "a worker is killed in the middle of step 3 of 5: another one goes on there within seconds, no attempt used", withCrew(2, workerCrash)},
	{"heartbeat-resume", "a worker is killed in the middle of a long step: the next execution goes on at the line that was under way", withCrew(2, heartbeatResume)},
	{"stale-worker", "a worker stands still until its job has run elsewhere: when it goes on, nothing it writes is accepted", withCrew(2, staleWorker)},
	{"poison-job", "a job that kills its workers is found out by itself and quarantined; the thirty orders beside it complete", withCrew(3, poisonJob, "--concurrency", "64")},
	{"redis-restart", "Redis, which syncs every write, is killed while jobs run and comes back: nothing is lost, and no job is taken from a worker that lives", redisRestart},
	{"rolling-deploy", "three workers under load are replaced one by one: nothing lost, doubled or failed, no attempt used, handed over within 2 s", withCrew(3, rollingDeploy)},
	{"service-unavailable", "payments is gone for 20 s under load: the queue is paused within 2 s, no attempt used; back, it resumes by itself within 3 s, every order fulfilled once", withCrew(0, serviceUnavailable)},
	{"recovery-ramp", "300 orders that waited for payments come back at 1, 2, 4 … 50 a second: no second sees more than 1.1 times the ramp", withCrew(3, recoveryRamp)},
	{"relapse", "payments goes away again in the middle of the ramp: it stops, the rest stays paused, and then every order is fulfilled once", withCrew(3, relapse)},
	{"one-bad-node", "one worker of three cannot reach payments: it holds back by itself, the breaker stays closed, the others fulfil every order", withCrew(2, oneBadNode)},
	{"noisy-tenant", "of one queue, 5,000 orders of one tenant stand before another's: those start within 2 s", withCrew(2, noisyTenant)},
	{"cron-ha", "three schedulers carry out a tick every second while one after the other is killed: each tick fires, and none twice", withCrew(3, cronHA)},
	{"cron-replay", "orders that a service refused are replayed by a schedule once it is mended, from their failed step", cronReplay},
	{"audit-tamper", "sealed decisions are edited, cut out, cut off, reordered and written anew: each is found, and what nobody has touched is not", auditTamper},
}

// finish enqueues an order and waits for its end.
func (s *stage) finish(ctx context.Context, o orders.Order) (jobs.Info, error) {
	h, err := s.store.Enqueue(ctx, s.job(o))
	if err != nil {
		return jobs.Info{}, err
	}
	return h.Wait(ctx)
}

func (s *stage) job(o orders.Order) jobs.Job {
	return orders.Fulfil.New(o.ID, o, jobs.Queue(s.queue))
}

// tally is what the ledgers say of one order: events by path.
type tally struct{ received, effects, replayed map[string]int }

func (s *stage) tally(order string) (tally, error) {
	t := tally{map[string]int{}, map[string]int{}, map[string]int{}}
	entries, err := s.ledger()
	for _, e := range entries {
		if e.Order != order {
			continue
		}
		switch e.Event {
		case "received":
			t.received[e.Path]++
		case "effect":
			t.effects[e.Path]++
		case "replayed":
			t.replayed[e.Path]++
		}
	}
	return t, err
}

// once returns an error unless each of the four services' effects happened once.
func (t tally) once() error {
	for _, path := range []string{"/charge", "/reserve", "/label", "/send"} {
		if t.effects[path] != 1 {
			return fmt.Errorf("%s took effect %d times instead of once", path, t.effects[path])
		}
	}
	return nil
}

func (t tally) String() string {
	text := "ledgers:"
	for _, path := range []string{"/charge", "/reserve", "/label", "/send"} {
		text += fmt.Sprintf(" %s %d calls %d effects;", path, t.received[path], t.effects[path])
	}
	return text[:len(text)-1]
}

func told(info jobs.Info) string {
	text := fmt.Sprintf("%s after %d executions, %d attempts used", info.State, info.Runs, info.Attempts)
	if f := info.LastFailure(); f != nil {
		text += fmt.Sprintf("; last failure %s (%s)", f.Class, f.Rule)
		if f.Step != "" {
			text += " in step " + f.Step
		}
	}
	return text
}

// must joins the conditions that do not hold into an error.
func must(conditions map[string]bool) error {
	var errs []error
	for what, holds := range conditions {
		if !holds {
			errs = append(errs, errors.New("broken: "+what))
		}
	}
	return errors.Join(errs...)
}

// late is a promise that names a time and was not kept. A machine that stands still breaks
// such promises too.
type late string

func (l late) Error() string { return "broken: " + string(l) }

// inTime is must for such promises.
func inTime(conditions map[string]bool) error {
	var errs []error
	for what, holds := range conditions {
		if !holds {
			errs = append(errs, late(what))
		}
	}
	return errors.Join(errs...)
}

// onlyLate reports whether nothing is wrong but that something came late.
func onlyLate(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(joined.Unwrap(), func(err error) bool { return !onlyLate(err) })
	}
	_, ok := err.(late)
	return ok
}

func duplicateRequest(ctx context.Context, s *stage) (string, string, error) {
	o := s.orders[0]
	results := make([]jobs.Enqueued, 100)
	var all sync.WaitGroup
	for i := range results {
		all.Go(func() { results[i].Handle, results[i].Err = s.store.Enqueue(ctx, s.job(o)) })
	}
	all.Wait()
	accepted, duplicates := 0, 0
	for _, r := range results {
		if r.Err != nil {
			return "", "", r.Err
		}
		if r.Handle.Duplicate {
			duplicates++
		} else {
			accepted++
		}
	}
	info, err := results[0].Handle.Wait(ctx)
	if err != nil {
		return told(info), "", err
	}
	t, err := s.tally(o.ID)
	observed := fmt.Sprintf("%d accepted, %d duplicates; job %s", accepted, duplicates, told(info))
	return observed, t.String(), errors.Join(err, t.once(), must(map[string]bool{
		"one request is accepted": accepted == 1, "the others are duplicates": duplicates == 99, "the job completes": info.State == jobs.StateCompleted,
	}))
}

func slowAPI(ctx context.Context, s *stage) (string, string, error) {
	o := s.orders[1]
	fault := orders.Fault{Mode: "slow", DelayMS: 4000, Count: 1, Path: "/reserve", Match: o.ID}
	if err := orders.SetFault(ctx, s.services.URL("warehouse"), fault); err != nil {
		return "", "", err
	}
	began := time.Now()
	info, err := s.finish(ctx, o)
	if err != nil {
		return told(info), "", err
	}
	t, err := s.tally(o.ID)
	return told(info) + fmt.Sprintf(", in %v", time.Since(began).Round(100*time.Millisecond)), t.String(), errors.Join(err, t.once(), must(map[string]bool{
		"the job completes":             info.State == jobs.StateCompleted,
		"one attempt was used":          info.Attempts == 1,
		"the failure was a timeout":     len(info.Failures) == 1 && info.Failures[0].Class == jobs.ClassTimeout,
		"the charge was asked for once": t.received["/charge"] == 1,
	}))
}

func badInput(ctx context.Context, s *stage) (string, string, error) {
	o := s.orders[2]
	if err := orders.SetFault(ctx, s.services.URL("payments"), orders.Fault{Mode: "4xx", Path: "/charge", Match: o.ID}); err != nil {
		return "", "", err
	}
	info, err := s.finish(ctx, o)
	if err != nil {
		return told(info), "", err
	}
	entry, err := s.store.Entry(ctx, s.queue, o.ID)
	if err != nil {
		return told(info), "", err
	}
	evidence := fmt.Sprintf("entry: %s (%s) in step %s, %q; signature %s", entry.Class, entry.Rule, entry.Step, entry.Reason, entry.Signature)
	return told(info), evidence, must(map[string]bool{
		"the job is quarantined":       info.State == jobs.StateQuarantined,
		"it was tried once":            info.Runs == 1,
		"its class is invalid":         entry.Class == jobs.ClassInvalid,
		"the entry names the step":     entry.Step == "charge",
		"what was done before is kept": len(info.Steps) == 1,
	})
}

func partialFailure(ctx context.Context, s *stage) (string, string, error) {
	o := s.orders[3]
	if err := orders.SetFault(ctx, s.services.URL("warehouse"), orders.Fault{Mode: "500", Count: 2, Path: "/reserve", Match: o.ID}); err != nil {
		return "", "", err
	}
	info, err := s.finish(ctx, o)
	if err != nil {
		return told(info), "", err
	}
	t, err := s.tally(o.ID)
	return told(info), t.String(), errors.Join(err, t.once(), must(map[string]bool{
		"the job completes":           info.State == jobs.StateCompleted,
		"two attempts were used":      info.Attempts == 2,
		"the payment was asked once":  t.received["/charge"] == 1,
		"the reservation three times": t.received["/reserve"] == 3,
	}))
}

func servicesDisagree(ctx context.Context, s *stage) (string, string, error) {
	o := s.orders[4]
	if err := orders.SetFault(ctx, s.services.URL("payments"), orders.Fault{Mode: "reply-lost", Count: 1, Path: "/charge", Match: o.ID}); err != nil {
		return "", "", err
	}
	info, err := s.finish(ctx, o)
	if err != nil {
		return told(info), "", err
	}
	t, err := s.tally(o.ID)
	return told(info), t.String() + fmt.Sprintf("; %d charge answered from memory", t.replayed["/charge"]), errors.Join(err, t.once(), must(map[string]bool{
		"the job completes":       info.State == jobs.StateCompleted,
		"no attempt was used":     info.Attempts == 0,
		"the charge was repeated": t.received["/charge"] == 2 && t.replayed["/charge"] == 1,
	}))
}
