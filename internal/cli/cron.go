package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler/cron"
)

// addCron adds what carries out schedules: those that come with the handlers, those
// of the configuration file, and those that Redis has already.
func (a *App) addCron(p *process, handlers []jobs.Handler) error {
	file, err := a.timetables()
	if err != nil {
		return err
	}
	r, err := cron.New(p.store, cron.Options{Code: jobs.Timetables(handlers), File: file, Actor: a.settings.actor(), Log: a.log, Registerer: p.metrics})
	if err != nil {
		return err
	}
	p.add("cron", r.Run)
	return nil
}

// timetables reads the configuration file. One that is named must be there.
func (a *App) timetables() ([]jobs.Timetable, error) {
	name := a.settings.Config
	if name == "" {
		name = "perdure.yaml"
	}
	text, err := os.ReadFile(name)
	if a.settings.Config == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read schedules (PERDURE_CONFIG): %w", err)
	}
	return cron.ReadFile(name, text)
}
