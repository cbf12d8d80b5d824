package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// The fields of a task hash. msg, state, pending_since, unique_key, group and
// result are asynq's. perdure's:
//
//	p:inc    the first claim's token: the incarnation of a task that carries none
//	p:tok    token of the attempt that owns the job; absent when none does
//	p:ltok   token of the last verdict, so that one sent twice is known
//	p:cat    when it was claimed, ms
//	p:run    executions begun
//	p:round  how often the job has continued with another payload
//	p:att    attempts used
//	p:cra    crashes
//	p:row    crashes in a row, with no step recorded between
//	p:icr    crashes of a process that ran nothing else
//	p:alone  this execution runs in a worker that runs nothing else
//	p:blame  '<0|1 alone> <token>' of the last crash, so that it can be taken back
//	p:waits  pauses in a row
//	p:pn     pause number
//	p:wait   what a paused job waits for: '<pause number> <since ms> <type> <name>'; type 'turn': it is pending, and waits its turn; and the kind follows when it waits in a lane
//	p:pass   with which it was sent back from a lane, for the next execution: '<since ms> <issued ms> <pass|probe> <turn> <id> <name>'
//	         while that one runs, and of a job that looks for itself, it lets nothing begin and keeps its place: '<since ms> 0 pass 0 - <name>';
//	         it goes when the execution ends, and stays when the job is handed back or its worker dies
//	p:due    when a retrying or paused job is due, ms
//	p:ver    the kind's version, pinned
//	p:dead   the quarantine entry, JSON
//	p:sig    its group while it is quarantined: the signature
//	p:plan   the replay plan that returned it last, and its signature before: '<plan> <signature>'
//	p:erased who erased its payload and outputs, and why
//	p:en     how often its payload was edited
//	p:exp    when an ended job is forgotten, unix seconds
//	p:end    'cancelled' when it ended so
//	p:can    who asked to cancel it while it ran, and why
//	p:hold   who has paused it, and why
//	p:back   where it goes when it is resumed before its time: '<scheduled|retry> <due ms>'
//	p:parent of a child: '<queue> <key> <incarnation> <group> <position>' of its parent
//	p:kids   of a parent: its incarnation
//	p:fn     number of the last failure
//	f:<n>    failure n, JSON: the first and the last fifty
//	s:<name> a step's record: '<execution> <started ms> <ended ms> <output>'
//	h:<name> progress saved inside a step
//	w:<name> a wait that is not over: '<until ms, 0: for ever> <since ms> <type>'
//	g:<name> a signal that was not waited for yet
//	e:<n>    an edit of its payload, JSON
//	i:<name> the id of the signal of that name
//	c:<name> a group of children: kind, queue and items, JSON
//	p:undo   what becomes of the job that is being undone: '<outcome> <JSON>'
//	p:undos  how many steps that can be undone were recorded
//	u:<name> of such a step: which of them it was
//	r:<name> how often the step was undone and begun anew
//	b:<name> a character for each of them: '-' is to be made, '0' open, '1' ended
type hash map[string]string

func (h hash) int(field string) int {
	n, _ := strconv.Atoi(h[field])
	return n
}

func (h hash) ms(field string) time.Time {
	n, err := strconv.ParseInt(h[field], 10, 64)
	if err != nil || n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}

// failures are those that are on record: the first, and the last ones.
func (h hash) failures() []jobs.Failure {
	if h.int("p:fn") <= keptFailures {
		return h.lastFailures()
	}
	return append(h.failuresFrom(1, 1), h.lastFailures()...)
}

// lastFailures are those that are on record without a gap.
func (h hash) lastFailures() []jobs.Failure {
	last := h.int("p:fn")
	return h.failuresFrom(max(1, last-keptFailures+1), last)
}

func (h hash) failuresFrom(first, last int) []jobs.Failure {
	failures := []jobs.Failure{}
	for n := first; n <= last; n++ {
		var f jobs.Failure
		if text, ok := h["f:"+strconv.Itoa(n)]; ok && json.Unmarshal([]byte(text), &f) == nil {
			failures = append(failures, f)
		}
	}
	return failures
}

// stepRecord reads 's:<name>'.
func stepRecord(record string) (info jobs.StepInfo, output []byte) {
	parts := strings.SplitN(record, " ", 4)
	if len(parts) < 4 {
		return info, nil
	}
	info.State = "done"
	info.Attempt, _ = strconv.Atoi(parts[0])
	started, _ := strconv.ParseInt(parts[1], 10, 64)
	ended, _ := strconv.ParseInt(parts[2], 10, 64)
	info.Started, info.Ended = time.UnixMilli(started).UTC(), time.UnixMilli(ended).UTC()
	return info, []byte(parts[3])
}

func (h hash) steps() []jobs.StepInfo {
	steps := []jobs.StepInfo{}
	for field, value := range h {
		if name, ok := strings.CutPrefix(field, "s:"); ok {
			info, _ := stepRecord(value)
			info.Name = name
			steps = append(steps, info)
		}
		if name, ok := strings.CutPrefix(field, "h:"); ok && name != "" {
			steps = append(steps, jobs.StepInfo{Name: name, State: "in progress"})
		}
	}
	slices.SortFunc(steps, func(a, b jobs.StepInfo) int {
		if a.State != b.State {
			return strings.Compare(a.State, b.State)
		}
		if c := a.Ended.Compare(b.Ended); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return steps
}

// state derives perdure's state from asynq's and from our fields.
func (h hash) state() jobs.State {
	switch h["state"] {
	case "scheduled":
		return jobs.StateScheduled
	case "pending":
		return jobs.StatePending
	case "active":
		return jobs.StateRunning
	case "archived":
		return jobs.StateQuarantined
	case "retry":
		if h.queued() {
			return jobs.StatePending
		}
		if h["p:wait"] != "" {
			return jobs.StatePaused
		}
		return jobs.StateRetrying
	case "completed":
		if h["p:end"] == "cancelled" {
			return jobs.StateCancelled
		}
		return jobs.StateCompleted
	}
	return jobs.StateUnknown
}

func (h hash) waiting() *jobs.Waiting {
	parts := strings.SplitN(h["p:wait"], " ", 4)
	if len(parts) < 4 || h["state"] != "retry" {
		return nil
	}
	since, _ := strconv.ParseInt(parts[1], 10, 64)
	if inLane(parts[2]) {
		parts[3], _, _ = strings.Cut(parts[3], " ")
	}
	return &jobs.Waiting{Type: parts[2], Name: parts[3], Since: time.UnixMilli(since).UTC(), Until: h.ms("p:due")}
}

// inLane reports whether what waits for a type of thing waits in a lane.
func inLane(waitingType string) bool { return waitingType == "dependency" || waitingType == "limit" }

// laneOf returns the lane that a job waits in by its p:wait, '<name> <kind>', or "".
func laneOf(wait string) string {
	parts := strings.SplitN(wait, " ", 4)
	if len(parts) < 4 || !inLane(parts[2]) {
		return ""
	}
	return parts[3]
}

// incarnation is the producer's, or for a stock task its first token.
func incarnation(m *message, h hash) string {
	if inc := m.Headers[headerIncarnation]; inc != "" {
		return inc
	}
	return h["p:inc"]
}

// info is the job as people see it; one whose message cannot be read has no kind.
func (h hash) info(queue, key string) jobs.Info {
	m, err := readMessage(key, []byte(h["msg"]))
	if err != nil {
		m = &message{}
	}
	i := jobs.Info{
		Queue: queue, Key: key, Kind: m.Type, Incarnation: incarnation(m, h), Tenant: m.Headers[headerTenant],
		State: h.state(), Version: h.int("p:ver"), Attempts: h.int("p:att"), Runs: h.int("p:run"), Round: h.int("p:round"), Crashes: h.int("p:cra"),
		WaitingOn: h.waiting(), Steps: h.steps(), Failures: h.failures(),
		EnqueuedAt: msText(m.Headers[headerEnqueued]), CancelAsked: h["p:can"] != "",
	}
	i.Parent, i.Children, i.Undo = h.parent(), h.children(), h.undoInfo()
	i.PauseAsked = h["p:hold"] != "" && (i.WaitingOn == nil || i.WaitingOn.Type != "operator")
	if i.State == jobs.StateRetrying || i.State == jobs.StatePaused {
		i.DueAt = h.ms("p:due")
	}
	if expires := h.int("p:exp"); expires > 0 && i.State.Ended() {
		i.ExpiresAt = time.Unix(int64(expires), 0).UTC()
	}
	if result, ok := h["result"]; ok {
		i = i.WithResult([]byte(result))
	}
	return i
}

func msText(text string) time.Time { return hash{"": text}.ms("") }

// delivered reads a claimed job out of the claim script's reply.
func delivered(queue, key, token, pendingSince string, h hash) delivery.Delivery {
	d := delivery.Delivery{
		Hold: delivery.Hold{Queue: queue, Key: key, Token: token}, Message: []byte(h["msg"]), Claimed: h.ms("p:cat"),
		Run: h.int("p:run"), Round: h.int("p:round"), Attempts: h.int("p:att"), Crashes: h.int("p:cra"), CrashedAlone: h.int("p:icr"), Waits: h.int("p:waits"), Version: h.int("p:ver"),
		Failures: h.lastFailures(), Steps: map[string][]byte{}, Progress: map[string][]byte{}, Undoable: h.counts("u:"), Undone: h.counts("r:"), Undo: h.undo(),
		Retention: jobs.DefaultRetention, CancelAsked: h["p:can"], Pass: delivery.ParsePass(h["p:pass"]),
	}
	if ns, err := strconv.ParseInt(pendingSince, 10, 64); err == nil {
		d.Ready = time.Unix(0, ns).UTC()
	}
	for field, value := range h {
		if name, ok := strings.CutPrefix(field, "s:"); ok {
			_, d.Steps[name] = stepRecord(value)
		}
		if name, ok := strings.CutPrefix(field, "h:"); ok {
			d.Progress[name] = []byte(value)
		}
	}
	m, err := readMessage(key, d.Message)
	if err != nil {
		d.Undecodable = fmt.Errorf("message of %d bytes cannot be read: %w", len(d.Message), err)
		return d
	}
	d.Kind, d.Payload, d.Encoded = m.Type, m.Payload, payloadVersion(m.Headers)
	d.Incarnation, d.Tenant = incarnation(m, h), m.Headers[headerTenant]
	d.Headers, d.Child = ownHeaders(m.Headers), m.Headers[headerParent] != ""
	d.Timeout = time.Duration(m.Timeout) * time.Second
	d.Retention = time.Duration(m.Retention) * time.Second
	if m.Deadline > 0 {
		d.Deadline = time.Unix(m.Deadline, 0)
	}
	if m.Headers[headerIncarnation] == "" {
		d.MaxAttempts = int(m.Retry) + 1
	}
	return d
}

// ownHeaders returns the producer's own headers, without perdure's.
func ownHeaders(all map[string]string) map[string]string {
	own := map[string]string{}
	for name, value := range all {
		if !strings.HasPrefix(name, jobs.HeaderPrefix) {
			own[name] = value
		}
	}
	return own
}

// pairs reads a flat field-value reply.
func pairs(flat []any) hash {
	h := make(hash, len(flat)/2)
	for i := 0; i+1 < len(flat); i += 2 {
		h[text(flat[i])] = text(flat[i+1])
	}
	return h
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case nil:
		return ""
	}
	return fmt.Sprint(v)
}

// mustJSON encodes values of ours that cannot fail to encode, without escaping
// HTML, so that people can read them.
func mustJSON(v any) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return "{}"
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func sortStrings(s []string) { sort.Strings(s) }
