package audit

import (
	"context"
	"time"
)

// Standing is how much of a stream is sealed, as it says of itself: [Verify] looks
// whether that is so.
type Standing struct {
	Stream        string    `json:"stream"`
	Decisions     int64     `json:"decisions"`           // ever taken
	MovedOut      int64     `json:"moved_out,omitempty"` // of them, in files
	SealedTo      int64     `json:"sealed_to,omitempty"` // the number of the last one that is sealed
	SealedAt      time.Time `json:"sealed_at,omitzero"`
	Unsealed      int64     `json:"unsealed"`
	UnsealedSince time.Time `json:"unsealed_since,omitzero"`
}

// Standings returns how much of every stream, or of one, is sealed, without those that
// have no decisions.
func Standings(ctx context.Context, c Chains, stream string) ([]Standing, error) {
	names, err := streams(ctx, c, stream)
	if err != nil {
		return nil, err
	}
	all := []Standing{}
	for _, name := range names {
		head, err := c.StreamHead(ctx, name)
		if err != nil {
			return nil, err
		}
		if head.Last.ID == "" && head.Seal.MAC == "" {
			continue
		}
		one := Standing{Stream: name, Decisions: head.Last.N, MovedOut: head.Anchor.N, SealedTo: head.Seal.N, Unsealed: max(head.Last.N-head.Seal.N, 0)}
		if head.Seal.MAC != "" {
			one.SealedAt = head.Seal.At
		}
		if one.Unsealed > 0 {
			next, err := c.Chain(ctx, name, head.Seal.ID, 1)
			if err != nil {
				return nil, err
			}
			for _, l := range next {
				one.UnsealedSince = l.At()
			}
		}
		all = append(all, one)
	}
	return all, nil
}
