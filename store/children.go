package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/propagation"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

const (
	spawnWithin      = 30 * time.Second // of the look at its claim, a parent may make children
	spawnBytes       = 1 << 20          // of messages in one script
	readAtOnce       = 64               // children, whose results may be large
	childrenFallback = time.Hour        // how often a parent looks for itself whether its children have ended
)

// group is the children of a job under one name, as its record keeps them in
// c:<name>.
type group struct {
	Kind     string   `json:"kind"`
	Queue    string   `json:"queue"`
	Detached bool     `json:"detached,omitempty"`
	Items    []string `json:"items"` // what each is called, in the order of b:<name>
}

// parentage is p:parent of a child: where it belongs. It has no spaces but those
// that part it.
type parentage struct {
	queue, key, incarnation, group string
	at                             int // its position
}

func (p parentage) String() string {
	return strings.Join([]string{p.queue, p.key, p.incarnation, p.group, strconv.Itoa(p.at)}, " ")
}

func readParentage(text string) (parentage, bool) {
	parts := strings.Split(text, " ")
	if len(parts) != 5 {
		return parentage{}, false
	}
	at, err := strconv.Atoi(parts[4])
	return parentage{parts[0], parts[1], parts[2], parts[3], at}, err == nil
}

// family is a group of children on their way: as the execution has it, and as the
// record does.
type family struct {
	s        *Store
	d        delivery.Delivery
	g        jobs.Group
	known    group
	mine     []int  // of each recorded item: its position in g
	standing string // b:<name>
	now      int64  // Redis' time at the last look, ms
}

// Children makes the children of a group that are not made yet, and returns how
// they have ended once all have; see [jobs.Attempt]. It is safe to send again when
// the outcome of a call is unknown. Errors as for [Store.Checkpoint]; ErrConflict: a
// child's key is taken by a job that is not this child.
func (s *Store) Children(ctx context.Context, d delivery.Delivery, g jobs.Group, wait bool) ([]jobs.Ended, bool, error) {
	f := &family{s: s, d: d, g: g}
	if g.Recorded {
		ended, err := f.read(ctx, g.Queue, g.Items)
		return ended, err == nil, err
	}
	if err := f.ask(ctx, "", wait); err != nil {
		return nil, false, err
	}
	made, err := f.make(ctx, wait)
	if err != nil || !wait || made == len(g.Items) {
		return nil, false, err // those that were made just now are open
	}
	return f.look(ctx)
}

// ask writes the group down, or reads how it stands; made is how many of the
// children are made by now.
func (f *family) ask(ctx context.Context, made string, wait bool) error {
	written := mustJSON(group{Kind: f.g.Kind, Queue: f.g.Queue, Detached: f.g.Detached, Items: f.g.Items})
	reply, err := f.s.run(ctx, "children", []string{taskKey(f.d.Queue, f.d.Key)},
		f.d.Token, f.g.Name, written, len(f.g.Items), f.d.Incarnation, made, boolText(wait), maxFields)
	if err != nil {
		return err
	}
	parts, _ := reply.([]any)
	if len(parts) != 5 {
		return fmt.Errorf("script children: unexpected answer %v", reply)
	}
	if err := stillWanted(parts[:2]); err != nil {
		return err
	}
	f.now, _ = parts[2].(int64)
	f.standing = text(parts[3])
	if made != "" {
		return nil
	}
	return f.match(text(parts[4]))
}

func boolText(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// match finds the recorded items among those of this execution.
func (f *family) match(recorded string) error {
	if err := json.Unmarshal([]byte(recorded), &f.known); err != nil {
		return jobs.Permanent(fmt.Errorf("the record of children %q cannot be read: %w", f.g.Name, err))
	}
	positions := make(map[string]int, len(f.g.Items))
	for i, item := range f.g.Items {
		positions[item] = i
	}
	f.mine = make([]int, len(f.known.Items))
	same := f.known.Kind == f.g.Kind && len(f.known.Items) == len(f.g.Items) && len(f.standing) == len(f.g.Items)
	for i, item := range f.known.Items {
		at, known := positions[item]
		same = same && known
		f.mine[i] = at
	}
	if !same {
		return jobs.Permanent(fmt.Errorf("children %q are not those that were made first, %d of kind %s (has the handler changed? raise the kind's version)",
			f.g.Name, len(f.known.Items), f.known.Kind))
	}
	return nil
}

// make makes the children that are to be made. The group is looked at again after
// each batch, so that what is made is known, and that the claim holds. It returns
// how many it has made.
func (f *family) make(ctx context.Context, wait bool) (made int, err error) {
	if err := f.s.register(ctx, f.known.Queue); err != nil {
		return 0, err
	}
	for {
		from := strings.IndexByte(f.standing, '-')
		if from < 0 {
			return made, nil
		}
		there, fresh, err := f.spawn(ctx, from)
		if err != nil {
			return made, err
		}
		made += fresh
		if err := f.ask(ctx, strconv.Itoa(from+there), wait); err != nil {
			return made, err
		}
	}
}

// spawn makes a batch of children from a position on. It returns how many are there
// now, and how many of them were not before.
func (f *family) spawn(ctx context.Context, from int) (n, fresh int, err error) {
	queue := f.known.Queue
	keys := []string{pendingKey(queue), scheduledKey(queue)}
	args := []any{f.now + spawnWithin.Milliseconds()}
	for size := 0; from+n < len(f.mine) && n < maxBatch && size < spawnBytes; n++ {
		job := f.g.Jobs[f.mine[from+n]]
		job.Queue = queue
		if err := f.s.registerTenant(ctx, queue, job.Tenant); err != nil {
			return 0, 0, err
		}
		parent := parentage{f.d.Queue, f.d.Key, f.d.Incarnation, f.g.Name, from + n}.String()
		msg := f.s.childMessage(ctx, job, parent)
		keys = append(keys, taskKey(queue, job.Key))
		args = append(args, job.Key, msg, parent, job.Delay.Milliseconds(), startSecond(job.At))
		size += len(msg)
	}
	reply, err := f.s.run(ctx, "spawn", keys, args...)
	if err != nil {
		return 0, 0, err
	}
	codes, _ := reply.([]any)
	switch {
	case len(codes) == 1 && codes[0] == int64(-5):
		return 0, 0, nil // this took too long: the claim is looked at again
	case len(codes) == 2 && codes[0] == int64(-4):
		which, _ := codes[1].(int64)
		key := f.g.Jobs[f.mine[from+int(which)-1]].Key
		return 0, 0, jobs.Permanent(fmt.Errorf("key %s/%s of a child is taken by another job: %w", queue, key, jobs.ErrConflict))
	case len(codes) != n:
		return 0, 0, fmt.Errorf("script spawn: unexpected answer %v", reply)
	}
	for _, code := range codes {
		if code == int64(1) {
			fresh++
		}
	}
	return n, fresh, nil
}

func startSecond(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.Add(time.Second - time.Nanosecond).Unix()
}

// look reads the children's own records: what the parent's record says of them may
// be late, and a child that was deleted elsewhere has told nobody. What it finds is
// noted, so that the parent waits for what is open and for nothing else.
func (f *family) look(ctx context.Context) ([]jobs.Ended, bool, error) {
	items := f.known.Items
	found, err := f.read(ctx, f.known.Queue, items)
	if err != nil {
		return nil, false, err
	}
	if reopened := f.differ(found, '1'); len(reopened) > 0 {
		if err := f.note(ctx, '0', reopened); err != nil {
			return nil, false, err
		}
		// One of them may have ended before that was noted: look again after it.
		again, err := f.read(ctx, f.known.Queue, pick(items, reopened))
		if err != nil {
			return nil, false, err
		}
		for i, at := range reopened {
			found[at] = again[i]
		}
	}
	if err := f.note(ctx, '1', f.differ(found, '0')); err != nil {
		return nil, false, err
	}
	ordered := make([]jobs.Ended, len(found))
	for i, e := range found {
		if !hasEnded(e.State) {
			return nil, false, f.ask(ctx, strconv.Itoa(len(items)), true)
		}
		ordered[f.mine[i]] = e
	}
	return ordered, true, nil
}

func hasEnded(state jobs.State) bool { return state.Ended() || state == jobs.StateGone }

// differ returns the positions that the record has so and that are otherwise.
func (f *family) differ(found []jobs.Ended, noted byte) (at []int) {
	for i, e := range found {
		if f.standing[i] == noted && hasEnded(e.State) != (noted == '1') {
			at = append(at, i)
		}
	}
	return at
}

func pick(items []string, at []int) []string {
	picked := make([]string, len(at))
	for i, n := range at {
		picked[i] = items[n]
	}
	return picked
}

// note tells the parent's record what was found.
func (f *family) note(ctx context.Context, mark byte, at []int) error {
	if len(at) == 0 {
		return nil
	}
	standing := []byte(f.standing)
	for _, i := range at {
		standing[i] = mark
	}
	f.standing = string(standing)
	_, err := f.s.report(ctx, parentage{queue: f.d.Queue, key: f.d.Key, incarnation: f.d.Incarnation, group: f.g.Name}, mark, at)
	return err
}

// report notes which children of a group have ended, or are open again; it returns
// the script's code.
func (s *Store) report(ctx context.Context, p parentage, mark byte, at []int) (int64, error) {
	var code int64
	for part := range slices.Chunk(at, maxBatch) {
		args := []any{p.key, p.incarnation, p.group, string(mark)}
		for _, i := range part {
			args = append(args, i)
		}
		var err error
		keys := []string{taskKey(p.queue, p.key), retryKey(p.queue), parkedKey(p.queue), pendingKey(p.queue)}
		if code, err = s.runCode(ctx, "report", keys, args...); err != nil {
			return 0, err
		}
	}
	return code, nil
}

// read returns the states of a group's children as their records say, and what
// those that have ended came to.
func (f *family) read(ctx context.Context, queue string, items []string) ([]jobs.Ended, error) {
	all := make([]jobs.Ended, 0, len(items))
	for part := range slices.Chunk(items, readAtOnce) {
		pipe := f.s.rdb.Pipeline()
		records := make([]*redis.SliceCmd, len(part))
		for i, item := range part {
			records[i] = pipe.HMGet(ctx, taskKey(queue, jobs.ChildKey(f.d.Key, f.g.Name, item)), childFields...)
		}
		if _, err := pipe.Exec(ctx); err != nil && !wrongType(err) {
			return nil, fmt.Errorf("read children %q: %w", f.g.Name, unreachable(err))
		}
		for _, record := range records {
			all = append(all, f.ended(record.Val()))
		}
	}
	return all, nil
}

var childFields = []string{"p:parent", "state", "p:end", "p:wait", "p:exp", "result", "p:dead", "msg"}

// ended reads a child's record; a job that is no child of this parent is not looked
// at.
func (f *family) ended(values []any) jobs.Ended {
	h := hash{}
	for i, value := range values {
		if value != nil {
			h[childFields[i]] = text(value)
		}
	}
	p, ok := readParentage(h["p:parent"])
	if !ok || h["msg"] == "" || p.queue != f.d.Queue || p.key != f.d.Key || p.incarnation != f.d.Incarnation || p.group != f.g.Name {
		return jobs.Ended{State: jobs.StateGone, Message: "its record was deleted"}
	}
	e := jobs.Ended{State: h.state()}
	switch {
	case h["p:exp"] != "" && h["p:end"] == "": // also when asynq's "run now" has sent it back
		e.State, e.Result = jobs.StateCompleted, []byte(h["result"])
	case h["p:exp"] != "":
		e.State = jobs.StateCancelled
		if m, err := decodeMessage([]byte(h["msg"])); err == nil {
			e.Message = strings.TrimPrefix(m.ErrorMsg, "cancelled: ")
		}
	case e.State == jobs.StateQuarantined:
		var entry delivery.Entry
		if json.Unmarshal([]byte(h["p:dead"]), &entry) == nil {
			e.Class, e.Message = entry.Class, entry.Message
		}
	}
	return e
}

// childMessage is the message of a child, as asynq's client would write it.
func (s *Store) childMessage(ctx context.Context, job jobs.Job, parent string) []byte {
	headers := s.headers(job)
	propagation.TraceContext{}.Inject(ctx, propagation.MapCarrier(headers))
	headers[headerParent] = parent
	m := message{
		Type: job.Kind, Payload: job.Payload, ID: job.Key, Queue: job.Queue, Retry: maxRetryField,
		Timeout: int64(job.Timeout / time.Second), Retention: int64(job.Retention / time.Second), Headers: headers,
	}
	if !job.Deadline.IsZero() {
		m.Deadline = job.Deadline.Unix()
	}
	return m.encode()
}

// fallback is how often a parked job looks for itself whether what it waits for is
// there.
func fallback(waitsFor string) time.Duration {
	if waitsFor == "children" {
		return childrenFallback
	}
	return waitFallback
}

func (h hash) parent() *jobs.ParentInfo {
	p, ok := readParentage(h["p:parent"])
	if !ok {
		return nil
	}
	return &jobs.ParentInfo{Queue: p.queue, Key: p.key}
}

func (h hash) children() (all []jobs.ChildrenInfo) {
	for field, value := range h {
		name, is := strings.CutPrefix(field, "c:")
		var g group
		if !is || json.Unmarshal([]byte(value), &g) != nil {
			continue
		}
		_, record := stepRecord(h["s:"+name])
		all = append(all, jobs.ChildrenInfo{
			Name: name, Queue: g.Queue, Kind: g.Kind, Total: len(g.Items),
			Open: len(g.Items) - strings.Count(h["b:"+name], "1"), Failed: jobs.FailedChildren(record),
		})
	}
	slices.SortFunc(all, func(a, b jobs.ChildrenInfo) int { return strings.Compare(a.Name, b.Name) })
	return all
}
