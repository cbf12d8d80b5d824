package ops

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler/cron"
)

// Schedules looks at schedules and decides about them; *cron.Desk does.
type Schedules interface {
	List(ctx context.Context) ([]cron.View, error)
	Show(ctx context.Context, name string, next int) (cron.Story, error)
	Add(ctx context.Context, t jobs.Timetable, by jobs.Decision) (cron.Story, error)
	Remove(ctx context.Context, name string, by jobs.Decision) error
	Pause(ctx context.Context, name string, by jobs.Decision) (cron.Story, error)
	Resume(ctx context.Context, name string, by jobs.Decision) (cron.Story, error)
	Trigger(ctx context.Context, name string, by jobs.Decision) (cron.Triggered, error)
	Backfill(ctx context.Context, name string, in cron.Range, by jobs.Decision) ([]cron.Filled, error)
}

var _ Schedules = (*cron.Desk)(nil)

func (s *service) scheduleRoutes() []route {
	if s.schedules == nil {
		return nil
	}
	return []route{
		{"GET /api/v1/schedules", Viewer, (*service).listSchedules},
		{"POST /api/v1/schedules", Operator, (*service).addSchedule},
		{"GET /api/v1/schedules/{name}", Viewer, (*service).getSchedule},
		{"POST /api/v1/schedules/{name}/pause", Operator, decideSchedule(Schedules.Pause)},
		{"POST /api/v1/schedules/{name}/resume", Operator, decideSchedule(Schedules.Resume)},
		{"POST /api/v1/schedules/{name}/trigger", Operator, decideSchedule(Schedules.Trigger)},
		{"POST /api/v1/schedules/{name}/remove", Operator, (*service).removeSchedule},
		{"POST /api/v1/schedules/{name}/backfill", Operator, (*service).backfillSchedule},
	}
}

func (s *service) listSchedules(w http.ResponseWriter, r *http.Request) error {
	if _, err := params(r); err != nil {
		return err
	}
	views, err := s.schedules.List(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"schedules": views})
}

func (s *service) getSchedule(w http.ResponseWriter, r *http.Request) error {
	values, err := params(r, "next")
	if err != nil {
		return err
	}
	next := 5
	if text := values.Get("next"); text != "" {
		if next, err = strconv.Atoi(text); err != nil {
			return &jobs.InvalidError{Field: "next", Value: text, Bound: "a number from 0 to 100"}
		}
	}
	story, err := s.schedules.Show(r.Context(), r.PathValue("name"), next)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, story)
}

func (s *service) addSchedule(w http.ResponseWriter, r *http.Request) error {
	var t jobs.Timetable
	var payload, replay, catchUp json.RawMessage
	limit := int64(maxBody + jobs.MaxTimetablePayload)
	by := jobs.Decision{Actor: visitOf(r).who.actor()}
	err := readBody(w, r, limit, text("reason", &by.Reason), text("name", &t.Name), text("when", (*string)(&t.When)), text("zone", &t.Zone),
		text("kind", &t.Kind), text("queue", &t.Queue), text("tenant", &t.Tenant), member{"payload", &payload, "JSON"},
		member{"replay", &replay, "an object of a filter's fields"}, text("skipped", &t.Skipped), text("repeated", &t.Repeated),
		member{"jitter", &t.Jitter, `a text such as "90s"`}, text("overlap", (*string)(&t.Overlap)),
		member{"catch_up", &catchUp, `an object of most (a number) and oldest (a text such as "24h")`})
	if err != nil {
		return err
	}
	if err := errors.Join(part("replay", replay, &t.Replay), part("catch_up", catchUp, &t.CatchUp)); err != nil {
		return err
	}
	t.Payload = payload
	story, err := s.schedules.Add(r.Context(), t, by)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, story)
}

// part reads a part of a timetable where there is one.
func part[T any](field string, text json.RawMessage, to **T) error {
	if len(text) == 0 || string(text) == "null" {
		return nil
	}
	*to = new(T)
	return cron.ReadPart(field, string(text), *to)
}

// decideSchedule serves a decision that needs a reason and nothing else.
func decideSchedule[T any](decide func(Schedules, context.Context, string, jobs.Decision) (T, error)) func(*service, http.ResponseWriter, *http.Request) error {
	return func(s *service, w http.ResponseWriter, r *http.Request) error {
		by, err := decisionOf(w, r)
		if err != nil {
			return err
		}
		answer, err := decide(s.schedules, r.Context(), r.PathValue("name"), by)
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, answer)
	}
}

func (s *service) removeSchedule(w http.ResponseWriter, r *http.Request) error {
	by, err := decisionOf(w, r)
	if err != nil {
		return err
	}
	if err := s.schedules.Remove(r.Context(), r.PathValue("name"), by); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]string{"removed": r.PathValue("name")})
}

func (s *service) backfillSchedule(w http.ResponseWriter, r *http.Request) error {
	var in cron.Range
	by := jobs.Decision{Actor: visitOf(r).who.actor()}
	const instant = `a time such as "2026-01-31T09:00:00Z"`
	err := readBody(w, r, maxBody, text("reason", &by.Reason), member{"from", &in.From, instant}, member{"until", &in.Until, instant},
		member{"forgotten", &in.Forgotten, "true or false"}, member{"dry_run", &in.Dry, "true or false"})
	if err != nil {
		return err
	}
	if in.From.IsZero() || in.Until.IsZero() {
		return &jobs.InvalidError{Field: "from and until", Value: "", Bound: "given, each " + instant}
	}
	ticks, err := s.schedules.Backfill(r.Context(), r.PathValue("name"), in, by)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"dry_run": in.Dry, "ticks": ticks})
}
