package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
)

func TestStatesRoundTrip(t *testing.T) {
	t.Parallel()
	for _, state := range append(jobs.States(), jobs.StateUnknown, "") {
		data, err := json.Marshal(jobs.Info{State: state})
		if err != nil {
			t.Fatal(err)
		}
		var info jobs.Info
		if err := json.Unmarshal(data, &info); err != nil || info.State != state {
			t.Errorf("%q comes back as %q, %v", state, info.State, err)
		}
	}
}

func TestStateOfALaterVersion(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"melted", "COMPLETED", " ", "\x00"} {
		data, err := json.Marshal(map[string]any{"state": text})
		if err != nil {
			t.Fatal(err)
		}
		var info jobs.Info
		if err := json.Unmarshal(data, &info); err != nil || info.State != jobs.StateUnknown || info.State.Ended() {
			t.Errorf("%q reads as %q, %v", text, info.State, err)
		}
	}
	var state jobs.State
	if err := json.Unmarshal([]byte("7"), &state); err == nil {
		t.Error("a number is accepted as a state")
	}
	byState := map[jobs.State]int{}
	if err := json.Unmarshal([]byte(`{"pending":1,"melted":2}`), &byState); err != nil || byState[jobs.StatePending] != 1 || byState[jobs.StateUnknown] != 2 {
		t.Errorf("got %v, %v", byState, err)
	}
}

func TestEnded(t *testing.T) {
	t.Parallel()
	ended := []jobs.State{jobs.StateCompleted, jobs.StateCancelled, jobs.StateQuarantined}
	for _, state := range append(jobs.States(), jobs.StateUnknown, "", "melted") {
		if got, want := state.Ended(), slices.Contains(ended, state); got != want {
			t.Errorf("%q: ended is %v, want %v", state, got, want)
		}
	}
}

func TestClassesRoundTrip(t *testing.T) {
	t.Parallel()
	for _, class := range append(classes, "", "melted", "\x00") {
		data, err := json.Marshal(jobs.Failure{Class: class})
		if err != nil {
			t.Fatal(err)
		}
		var failure jobs.Failure
		if err := json.Unmarshal(data, &failure); err != nil || failure.Class != class {
			t.Errorf("%q comes back as %q, %v", class, failure.Class, err)
		}
	}
}

func TestInfoRoundTrip(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	info := jobs.Info{
		Queue: "q", Key: "k", Kind: "kind", Incarnation: "i", State: jobs.StatePaused, Version: 2, Attempts: 3, Runs: 4, Crashes: 1,
		WaitingOn: &jobs.Waiting{Type: "timer", Name: "n", Since: at, Until: at},
		Steps:     []jobs.StepInfo{{Name: "s", State: "done", Started: at, Ended: at, Attempt: 1, Output: json.RawMessage(`1`)}},
		Failures:  []jobs.Failure{{Class: jobs.ClassTimeout, At: at}, {Class: jobs.ClassDenied, At: at}},
		DueAt:     at,
	}.WithResult([]byte(`{"a":1}`))
	data, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	var back jobs.Info
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil || string(again) != string(data) {
		t.Errorf("got  %s, %v\nwant %s", again, err, data)
	}
	if absent := `"expires_at"`; strings.Contains(string(data), absent) {
		t.Errorf("a zero time is shown: %s", data)
	}
	if last := back.LastFailure(); last == nil || last.Class != jobs.ClassDenied {
		t.Errorf("last failure %+v", last)
	}
	if last := (jobs.Info{}).LastFailure(); last != nil {
		t.Errorf("last failure of none: %+v", last)
	}
}

func TestWithResult(t *testing.T) {
	t.Parallel()
	for stored, want := range map[string]string{
		"":         "",
		`{"a": 1}`: `{"a": 1}`,
		"\x00\xff": `"AP8="`,
		"{":        `"ew=="`,
	} {
		if got := (jobs.Info{}).WithResult([]byte(stored)).Result; string(got) != want {
			t.Errorf("%q is shown as %s, want %s", stored, got, want)
		}
	}
}

func TestDecisionCheck(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		decision jobs.Decision
		field    string
	}{
		{jobs.Decision{Actor: "a", Reason: "r"}, ""},
		{jobs.Decision{Actor: strings.Repeat("a", 200), Reason: strings.Repeat("r", 1000)}, ""},
		{jobs.Decision{Reason: "r"}, "actor"},
		{jobs.Decision{Actor: strings.Repeat("a", 201), Reason: "r"}, "actor"},
		{jobs.Decision{Actor: "a"}, "reason"},
		{jobs.Decision{Actor: "a", Reason: strings.Repeat("r", 1001)}, "reason"},
	} {
		err := test.decision.Check()
		switch {
		case test.field == "" && err != nil:
			t.Errorf("refused: %v", err)
		case test.field != "":
			requireInvalid(t, err, test.field)
		}
	}
}

type waiter struct {
	jobs.Client

	queue, key string
}

func (w *waiter) Wait(_ context.Context, queue, key string) (jobs.Info, error) {
	w.queue, w.key = queue, key
	return jobs.Info{State: jobs.StateCompleted}, nil
}

func TestHandleWait(t *testing.T) {
	t.Parallel()
	var w waiter
	h := jobs.NewHandle(&w, jobs.Handle{Queue: "q", Key: "k"})
	if info, err := h.Wait(t.Context()); err != nil || info.State != jobs.StateCompleted || w.queue != "q" || w.key != "k" {
		t.Errorf("got %+v, %v by %+v", info, err, w)
	}
	if _, err := (jobs.Handle{}).Wait(t.Context()); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("without a client: %v", err)
	}
}
