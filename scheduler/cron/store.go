package cron

import (
	"context"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Store is what schedules need of the store.
type Store interface {
	Table
	Ticks
	Plans
	// Get, Cancel and KindDefinition are about the jobs of ticks.
	Get(ctx context.Context, queue, key string) (jobs.Info, error)
	Cancel(ctx context.Context, queue, key string, by jobs.Decision) (jobs.Info, error)
	KindDefinition(ctx context.Context, name string) (jobs.Definition, error)
}

// Table is the schedules as Redis keeps them.
type Table interface {
	// ScheduleChanges returns a number that grows with each change, and Redis' time.
	ScheduleChanges(ctx context.Context) (int64, time.Time, error)
	Schedules(ctx context.Context) ([]delivery.Scheduled, error)
	Schedule(ctx context.Context, name string) (delivery.Scheduled, error)
	DefineSchedule(ctx context.Context, t jobs.Timetable, origin string, now time.Time, by jobs.Decision) (bool, error)
	DeclareSchedules(ctx context.Context, names []string, now time.Time) error
}

// Ticks decides about ticks and carries them out.
type Ticks interface {
	DecideTick(ctx context.Context, d delivery.TickDecision) (delivery.TickAnswer, error)
	FireTick(ctx context.Context, series string, at time.Time, job jobs.Job) (bool, error)
	CloseTick(ctx context.Context, e delivery.TickEnd) (bool, error)
}

// Plans is what scheduled replays need of the quarantine.
type Plans interface {
	Queues(ctx context.Context) ([]string, error)
	Dead(ctx context.Context, query delivery.DeadQuery) (delivery.DeadPage, error)
	Plan(ctx context.Context, queue, id string) (delivery.Plan, error)
	MakePlan(ctx context.Context, r delivery.PlanRequest, by jobs.Decision) (delivery.Plan, error)
	AbortPlan(ctx context.Context, queue, id string, by jobs.Decision) (delivery.Plan, error)
}
