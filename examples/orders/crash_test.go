package orders

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/jobs/jobstest"
)

func TestAnOrderSurvivesACrashAnywhere(t *testing.T) {
	o := sampleOrder(t)
	jobstest.CrashEverywhere(t, func() jobstest.World {
		r := newRig(t)
		return jobstest.World{Handler: r.Handler(), Payload: o, Effects: func() any { return r.count(t, "effect") }}
	})
}

// complaints is a test that notes what it would fail with.
type complaints struct {
	testing.TB
	texts []string
}

func (c *complaints) Errorf(format string, args ...any) {
	c.texts = append(c.texts, fmt.Sprintf(format, args...))
}

// A charge that makes up a key each time charges twice after a crash.
func TestACarelessChargeIsFound(t *testing.T) {
	o, found := sampleOrder(t), &complaints{TB: t}
	jobstest.CrashEverywhere(found, func() jobstest.World {
		r := newRig(t)
		careless := Fulfil.Do(func(ctx context.Context, o Order) (Shipment, error) {
			_, err := jobs.Step(ctx, "charge", func(ctx context.Context) (string, error) {
				return post(ctx, r.Payments+"/charge", rand.Text(), o)
			})
			if err == nil {
				_, err = jobs.Step(ctx, "send", func(ctx context.Context) (string, error) { return r.send(ctx, o) })
			}
			return Shipment{Order: o.ID}, err
		})
		return jobstest.World{Handler: careless, Payload: o, Effects: func() any { return r.count(t, "effect") }}
	})
	if len(found.texts) != 1 || !strings.Contains(found.texts[0], `step "charge" after its effect and before its record`) {
		t.Errorf("found %q", found.texts)
	}
}
