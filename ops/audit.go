package ops

import (
	"errors"
	"net/http"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/store"
)

var _ audit.Chains = (*store.Store)(nil)

func (s *service) auditRoutes() []route {
	if s.audit == nil {
		return nil
	}
	return []route{
		{"GET /api/v1/audit", Viewer, (*service).listAudit},
		{"GET /api/v1/audit/verify", Viewer, (*service).verifyAudit},
		{"GET /api/v1/audit/export", Viewer, (*service).exportAudit},
		{"GET /api/v1/audit/seals", Viewer, (*service).listSeals},
	}
}

// listAudit shows a page of decisions, each stream's oldest first.
func (s *service) listAudit(w http.ResponseWriter, r *http.Request) error {
	values, err := params(r, "queue", "what", "key", "by", "since", "before", "limit", "cursor")
	if err != nil {
		return err
	}
	limit, err := limitOf(values)
	if err != nil {
		return err
	}
	f := audit.Filter{Stream: values.Get("queue"), What: values.Get("what"), Key: values.Get("key"), Actor: values.Get("by")}
	if f.Since, err = timeOf(values, "since"); err != nil {
		return err
	}
	if f.Before, err = timeOf(values, "before"); err != nil {
		return err
	}
	page, err := audit.ListPage(r.Context(), s.audit, f, values.Get("cursor"), limit)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, page)
}

// verifyAudit answers 200 also when something is wrong: the answer says what.
func (s *service) verifyAudit(w http.ResponseWriter, r *http.Request) error {
	values, err := params(r, "queue")
	if err != nil {
		return err
	}
	findings, err := audit.Verify(r.Context(), s.audit, s.auditKeys, values.Get("queue"), nil)
	if err != nil {
		return err
	}
	whole := true
	for _, f := range findings {
		whole = whole && f.Why == ""
	}
	return writeJSON(w, http.StatusOK, map[string]any{"as_written": whole, "seals_checked": s.auditKeys.Checks(), "streams": findings})
}

// begun notes that a part of an answer is out.
type begun struct {
	http.ResponseWriter
	some bool
}

func (b *begun) Write(data []byte) (int, error) {
	if !b.some {
		b.Header().Set("Content-Type", "application/x-ndjson")
	}
	b.some = true
	return b.ResponseWriter.Write(data)
}

// exportAudit sends what audit export writes. An answer that cannot be ended is cut
// short, so that nobody takes it for whole.
func (s *service) exportAudit(w http.ResponseWriter, r *http.Request) error {
	values, err := params(r, "queue")
	if err != nil {
		return err
	}
	out := &begun{ResponseWriter: w}
	_, err = audit.Export(r.Context(), s.audit, values.Get("queue"), out, nil)
	if err != nil && out.some {
		visitOf(r).err = err
		panic(http.ErrAbortHandler)
	}
	if err == nil && !out.some { // there is nothing: an empty file
		_, err = out.Write(nil)
	}
	return err
}

var errFull = errors.New("the page is full")

// listSeals shows a page of seals, each stream's oldest first.
func (s *service) listSeals(w http.ResponseWriter, r *http.Request) error {
	values, err := params(r, "queue", "limit", "cursor")
	if err != nil {
		return err
	}
	limit, err := limitOf(values)
	if err != nil {
		return err
	}
	page := struct {
		Seals []delivery.Seal `json:"seals"`
		Next  string          `json:"next"`
	}{Seals: []delivery.Seal{}}
	stream, id, err := audit.ReadCursor(values.Get("cursor"))
	if err != nil {
		return err
	}
	err = audit.ListSealsAfter(r.Context(), s.audit, values.Get("queue"), stream, id, func(seal delivery.Seal) error {
		page.Seals = append(page.Seals, seal)
		if len(page.Seals) == limit {
			page.Next = seal.Stream + "/" + seal.ID
			return errFull
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFull) {
		return err
	}
	return writeJSON(w, http.StatusOK, page)
}
