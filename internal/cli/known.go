package cli

import (
	"context"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/store"
)

// knownQueue refuses a queue to select by that nobody knows, most likely misspelt: nothing
// is found there, and that reads like good news. "" selects all.
func (a *App) knownQueue(ctx context.Context, s *store.Store, queue string) error {
	if queue == "" {
		return nil
	}
	return s.CheckQueueKnown(ctx, queue)
}

// knownStream is knownQueue for decisions, which outlive their queue.
func (a *App) knownStream(ctx context.Context, s *store.Store, stream string) error {
	if stream == "" {
		return nil
	}
	if err := audit.CheckStream(stream); err != nil {
		return err
	}
	there, err := audit.Standings(ctx, s, stream)
	if err != nil || len(there) > 0 || stream[0] == '@' {
		return err
	}
	return s.CheckQueueKnown(ctx, stream)
}

// noteUnchanged notes that a decision found what it was about as it was to be.
func (a *App) noteUnchanged(what, before, after string) {
	if before == after {
		a.note("%s: nothing changed, it was %s before", what, after)
	}
}

// noteUnknownKind notes that no worker has said that it has a kind which is selected by. It
// is no error: jobs of a kind that is no more may be there.
func (a *App) noteUnknownKind(ctx context.Context, s *store.Store, kind string) {
	if kind == "" {
		return
	}
	handlers, _ := a.handlers(false)
	for _, h := range handlers {
		if h.Definition.Name == kind {
			return
		}
	}
	if published, err := s.Kinds(ctx); err != nil || published[kind].Name != "" {
		return
	}
	a.note("no worker has said that it has the kind %s; known: %s", kind, a.knownKinds(ctx, s, handlers))
}
