package ops

import (
	"encoding/json"
	"net/http"

	"github.com/perdure/perdure/jobs"
)

// signalled is the answer to a signal.
type signalled struct {
	Queue  string `json:"queue"`
	Key    string `json:"key"`
	Signal string `json:"signal"`
	ID     string `json:"id,omitempty"`
}

// signalJob hands a program's signal to a job.
func (s *service) signalJob(w http.ResponseWriter, r *http.Request) error {
	signal := jobs.Signal{Name: r.PathValue("name"), Actor: visitOf(r).who.actor()}
	var data json.RawMessage
	err := readBody(w, r, maxBody+int64(jobs.DefaultMaxPayload), member{"data", &data, "JSON"}, text("id", &signal.ID), text("reason", &signal.Reason))
	if err != nil {
		return err
	}
	if signal.Data = data; len(data) == 0 {
		signal.Data = []byte("null")
	}
	return s.signal(w, r, signal)
}

// approveJob hands a person's decision to a job that awaits it.
func (s *service) approveJob(w http.ResponseWriter, r *http.Request) error {
	approved := true
	by, err := decisionOf(w, r, member{"approved", &approved, "true or false"})
	if err != nil {
		return err
	}
	by.Actor = visitOf(r).who.name // what the job sees; the record has the role too
	signal, err := jobs.Approve(r.PathValue("name"), approved, by)
	if err != nil {
		return err
	}
	signal.Actor = visitOf(r).who.actor()
	return s.signal(w, r, signal)
}

func (s *service) signal(w http.ResponseWriter, r *http.Request, signal jobs.Signal) error {
	queue, key, err := place(r)
	if err != nil {
		return err
	}
	if err := s.store.Signal(r.Context(), queue, key, signal); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, signalled{queue, key, signal.Name, signal.ID})
}
