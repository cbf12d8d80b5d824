package store

import (
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/perdure/perdure/internal/delivery"
)

// checkEvents holds the decisions that were recorded since the last check to the states
// of the jobs that they are about, then and now, and the chain to itself.
func (m *machine) checkEvents(t *rapid.T, s seen) {
	links, err := m.f.Chain(m.f.ctx, "q", m.last.ID, maxBatch)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range links {
		if wrong := l.Follows(m.last); wrong != "" || m.last.N == 0 && l.N != 1 {
			t.Fatalf("decision %+v after %+v: %s", l, m.last, wrong)
		}
		m.last = l
		of := func(other delivery.Link) bool { return other.Key == l.Key }
		first, last := !slices.ContainsFunc(links[:i], of), !slices.ContainsFunc(links[i+1:], of)
		if l.Actor == "asynq" || l.Key == "" {
			continue // a claim records what "run now" has done before it
		}
		if was := m.was[l.Key]; first && was != "" && word(l.Before) != was {
			t.Fatalf("decision %+v, and %s was %s before", l, l.Key, was)
		}
		if is := stateNow(s, l.Key); last && word(l.After) != is && (word(l.After) != "gone" || is != "") {
			t.Fatalf("decision %+v, and %s is %s since", l, l.Key, is)
		}
	}
	m.was = map[string]string{}
	for _, key := range machineKeys {
		m.was[key] = stateNow(s, key)
	}
}

// word is the state in what a decision says of a job.
func word(text string) string {
	text, _, _ = strings.Cut(text, ",")
	text, _, _ = strings.Cut(text, " ")
	return text
}

func stateNow(s seen, key string) string {
	h := hash(s.hashes[key])
	if h["msg"] == "" {
		return ""
	}
	return string(h.state())
}
