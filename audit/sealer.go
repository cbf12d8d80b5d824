package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Sealing is what sealing needs of the store.
type Sealing interface {
	Chains
	AddSeal(ctx context.Context, seal delivery.Seal) (bool, error)
	Record(ctx context.Context, stream, nonce, what, key string, by jobs.Decision) error
	KnowStreams(ctx context.Context, streams []string) error
}

// DefaultEvery is how often a sealer seals, and so how long the last decisions of a
// stream go without a seal.
const DefaultEvery = time.Minute

// Options say how a sealer runs. The zero value of each field has a default.
type Options struct {
	Keys       Keys
	Every      time.Duration         // between two seals of a stream that has news, 1 s to 24 h; default 1 min
	Log        *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: none
}

// Sealer seals the decisions of all streams from time to time. Any number may run on one
// Redis: each seal continues the one before, so of two that seal at once one is refused.
// A sealer looks at what it seals, and remembers what it has seen: what is not as it was
// written since is logged as an error, counted, and recorded in the stream.
type Sealer struct {
	store   Sealing
	keys    Keys
	every   time.Duration
	log     *slog.Logger
	made    prometheus.Counter
	alarms  prometheus.Counter
	seen    map[string]delivery.Seal // the last seal of each stream
	alarmed map[string]string        // what was told of each stream
}

// NewSealer returns a sealer on a store. It seals only when there is a key that seals.
func NewSealer(store Sealing, o Options) (*Sealer, error) {
	if o.Every == 0 {
		o.Every = DefaultEvery
	}
	if o.Every < time.Second || o.Every > 24*time.Hour {
		return nil, &jobs.InvalidError{Field: "time between seals", Value: o.Every, Bound: "from 1s to 24h"}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		if o.Registerer != nil {
			o.Registerer.MustRegister(c)
		}
		return c
	}
	return &Sealer{
		store: store, keys: o.Keys, every: o.Every, log: o.Log, seen: map[string]delivery.Seal{}, alarmed: map[string]string{},
		made:   counter("perdure_audit_seals_total", "Seals that this process has written."),
		alarms: counter("perdure_audit_alarms_total", "Streams of decisions that this process has found not to be as they were written."),
	}, nil
}

// Run seals until ctx ends, and then returns nil. Without a key that seals it returns at
// that end, and does nothing.
func (s *Sealer) Run(ctx context.Context) error {
	if !s.keys.Seals() {
		<-ctx.Done()
		return nil
	}
	timer := time.NewTimer(time.Duration(rand.Int64N(int64(min(s.every, 2*time.Second)))))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if _, err := s.SealAll(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("cannot seal recorded decisions", "error", err)
		}
		timer.Reset(s.every)
	}
}

// SealAll seals every stream that has decisions after its last seal, but those of
// drills and benchmarks, which remove their queues in the end, so that a seal would be
// missed then. It returns the seals. One stream's error does not stop the
// others.
func (s *Sealer) SealAll(ctx context.Context) ([]delivery.Seal, error) {
	if err := s.sealing(); err != nil { // once, and not for each stream
		return nil, err
	}
	names, err := s.store.Streams(ctx)
	if err != nil {
		return nil, err
	}
	for stream := range s.seen { // also one that is on no list any more
		if !slices.Contains(names, stream) {
			names = append(names, stream)
		}
	}
	made, errs := []delivery.Seal{}, []error{}
	var known []string
	for _, stream := range names {
		if delivery.Passes(stream) {
			continue
		}
		seal, ok, err := s.Seal(ctx, stream)
		if ok {
			made, known = append(made, seal), append(known, stream)
		}
		errs = append(errs, err)
	}
	return made, errors.Join(append(errs, s.store.KnowStreams(ctx, known))...)
}

func (s *Sealer) sealing() error {
	if !s.keys.Seals() {
		return &jobs.InvalidError{Field: settingKey, Value: "none", Bound: "a key to seal with"}
	}
	return nil
}

// Alarms says what this sealer has found to be wrong, by stream. It must not run meanwhile.
func (s *Sealer) Alarms() map[string]string { return maps.Clone(s.alarmed) }

// Seal seals a stream, and reports whether it had decisions after its last seal.
func (s *Sealer) Seal(ctx context.Context, stream string) (seal delivery.Seal, made bool, err error) {
	if err := s.sealing(); err != nil {
		return seal, false, err
	}
	head, err := s.store.StreamHead(ctx, stream)
	if err != nil {
		return seal, false, err
	}
	sum, why, err := s.since(ctx, stream, head)
	if missing := s.missing(stream, head); missing != "" {
		why = missing
	}
	if err == nil && why != "" { // the alarm is sealed too
		if err = s.alarm(ctx, stream, why); err == nil {
			head, err = s.store.StreamHead(ctx, stream)
		}
		if err == nil {
			sum, _, err = s.since(ctx, stream, head)
		}
	}
	if err != nil {
		return seal, false, err
	}
	s.seen[stream] = head.Seal
	if head.Last.N == 0 || head.Last.ID == head.Seal.ID {
		return seal, false, nil
	}
	seal = s.keys.seal(delivery.Seal{
		Stream: stream, N: head.Last.N, ID: head.Last.ID, Hash: head.Last.Hash, Sum: sum, Prev: head.Seal.MAC, At: head.Now.Truncate(time.Millisecond), Key: s.keys.current,
	})
	if made, err = s.store.AddSeal(ctx, seal); made {
		s.seen[stream] = seal
		s.made.Inc()
	}
	if errors.Is(err, jobs.ErrConflict) {
		return seal, false, errors.Join(err, s.alarm(ctx, stream, "the seals of decision "+head.Last.ID+" or later ones were taken away"))
	}
	return seal, made, err
}

// missing says what is not there that this sealer has seen, or that Redis remembers.
func (s *Sealer) missing(stream string, head delivery.Head) string {
	seen := s.seen[stream]
	switch {
	case delivery.CompareIDs(head.Seal.ID, seen.ID) < 0 || head.Seal.ID == seen.ID && head.Seal.MAC != seen.MAC:
		return fmt.Sprintf("the seal of decision %d, which was there, is gone: cut off, or lost by a fail-over", seen.N)
	case delivery.CompareIDs(head.Last.ID, head.Seal.ID) < 0:
		return fmt.Sprintf("decision %d, which is sealed, is gone", head.Seal.N)
	case delivery.CompareIDs(head.Top, head.Last.ID) > 0:
		return "its end was cut off after " + head.Last.ID
	}
	if head.Seal.MAC != "" {
		if why := s.keys.wrong(head.Seal.Key, head.Seal.Text(), head.Seal.MAC); why != "" {
			return fmt.Sprintf("the last seal, of decision %d: %s", head.Seal.N, why)
		}
	}
	return ""
}

// since sums up the decisions since the last seal, and says what is wrong with the first
// of them that is not as it was written. What was sealed before is looked at by [Verify].
func (s *Sealer) since(ctx context.Context, stream string, head delivery.Head) (sum, why string, err error) {
	before, all := head.Seal.Link(), sha256.New()
	err = each(ctx, s.store, stream, head.Seal.ID, func(l delivery.Link) bool {
		if delivery.CompareIDs(l.ID, head.Last.ID) > 0 {
			return false
		}
		all.Write(l.Text())
		if is := wrong(l, before); is != "" && why == "" {
			why = "decision " + l.ID + ": " + is
		}
		before = l
		return true
	})
	return hex.EncodeToString(all.Sum(nil)), why, err
}

// alarm tells once what is wrong with a stream, and records it there, so that it stays
// known when the log is gone.
func (s *Sealer) alarm(ctx context.Context, stream, why string) error {
	if s.alarmed[stream] == why {
		return nil
	}
	s.log.Error("recorded decisions are not as they were written; see perdure audit verify", "stream", stream, "why", why)
	nonce := sha256.Sum256([]byte(why))
	by := jobs.Decision{Actor: "perdure", Reason: cut(why, 1000)}
	if err := s.store.Record(ctx, stream, hex.EncodeToString(nonce[:16]), "audit alarm", "", by); err != nil {
		return err
	}
	s.alarms.Inc()
	s.alarmed[stream] = why
	return nil
}
