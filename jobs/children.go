package jobs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// MaxChildren is how many children one [CallEach] may have.
const MaxChildren = 10_000

// StateGone is the state of a child in a [ChildError] whose record was deleted
// before its parent could read it. No job is ever found in it.
const StateGone State = "gone"

// ChildError says that a child has not completed. A handler that returns it
// quarantines the parent: trying the parent again would find the child as it is.
// Replay the child and then the parent, which reads it again.
type ChildError struct {
	Queue, Key string
	State      State  // quarantined, cancelled or gone
	Class      Class  // of the child's last failure; empty where there is none
	Message    string // of it, or why the child was cancelled; may be empty
}

// Error names the child, and says how it has ended.
func (e *ChildError) Error() string {
	text := fmt.Sprintf("child %s/%s is %s", e.Queue, e.Key, e.State)
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// byChild makes a child's failure one that trying again cannot help, whatever its
// class was to the child: the parent would only find it again.
func byChild(err error) (Classification, bool) {
	var child *ChildError
	if !errors.As(err, &child) {
		return none()
	}
	return is(ClassInvalid, "child "+string(child.State))
}

// Detached makes a child that goes on when its parent is cancelled. It is an option
// of [Spawn], [Call] and [CallEach] only.
func Detached() JobOption {
	return jobOption(func(j *Job) error {
		j.detached = true
		return nil
	})
}

// attached refuses what only a child may be.
func (j Job) attached() Job {
	if j.detached {
		j.err = errors.Join(j.err, &InvalidError{Field: "detached", Value: true, Bound: "absent: only a child can be"})
	}
	return j
}

// Group is the children that a job makes under one name, as an [Attempt] is asked.
type Group struct {
	Name     string   // unique among the job's steps and waits
	Kind     string   // of all of them
	Queue    string   // of all of them
	Detached bool     // cancelling the parent does not cancel them
	Items    []string // what each is called in the group; a single child is called ""
	Jobs     []Job    // in the order of Items
	Recorded bool     // how they have ended is recorded: their results are only read
}

// Ended is how a child has ended, as an [Attempt] reports it.
type Ended struct {
	State   State  // completed, quarantined, cancelled or gone; of a recorded group, any
	Result  []byte // completed: as stored
	Class   Class  // of its last failure
	Message string
}

// Child is a job that the running one has made. Make one with [Spawn].
type Child[R any] struct {
	Queue string
	Key   string

	family *family
	decode func(Ended) (R, error)
}

// Spawn makes a job of another kind, a child of the running one, and goes on. That
// the child is to be made is recorded first, so that a parent that is run again,
// whatever it died of, has one child of that name. The child's key comes from the
// parent's and the name ([ChildKey]). It has the parent's tenant unless an option
// says otherwise.
//
// A child lives by itself: it goes on when the parent completes or is quarantined,
// and is cancelled with it unless it is [Detached]. Its record is kept as long as
// the parent may ask for it.
//
// The name is one of a step: [ErrDuplicateStep]. Other errors are those of [Step],
// [ErrInvalid] for a payload or options out of bounds, and [ErrConflict] when the
// child's key is taken by a job that is not this child.
func Spawn[P, R any](ctx context.Context, name string, kind Kind[P, R], payload P, options ...JobOption) (Child[R], error) {
	f, err := newFamily(ctx, name, kind.definition, []string{""}, func(_ int, key string) Job { return kind.job(key, payload, options) })
	if err != nil {
		return Child[R]{}, err
	}
	child := Child[R]{Queue: f.group.Queue, Key: f.group.Jobs[0].Key, family: f, decode: kind.ended}
	if _, undoing := f.a.Undoing(); f.recorded == nil && !undoing {
		_, _, err = f.a.Children(ctx, f.group, false)
	}
	if err != nil {
		return child, fmt.Errorf("spawn %q: %w", name, err)
	}
	return child, nil
}

// Result returns the child's result once it has completed; meanwhile the parent is
// parked ([ErrParked]). How the child has ended is recorded, like a step's output,
// so that the parent finds the same when it is run again. The error is a
// *[ChildError] when the child was quarantined or cancelled or is gone; others as
// for [Spawn].
func (c Child[R]) Result(ctx context.Context) (R, error) {
	var zero R
	if c.family == nil {
		return zero, fmt.Errorf("result of a child that was not made: %w", ErrNoJob)
	}
	ended, err := c.family.wait(ctx)
	if err != nil {
		return zero, err
	}
	result, err := outcome(c.family, 0, ended[0], c.decode)
	if err != nil {
		return zero, &StepError{Step: c.family.group.Name, Err: err}
	}
	return result, nil
}

// Call is [Spawn] and then [Child.Result]: it runs a job of another kind as a child
// and returns its result.
func Call[P, R any](ctx context.Context, name string, kind Kind[P, R], payload P, options ...JobOption) (R, error) {
	child, err := Spawn(ctx, name, kind, payload, options...)
	if err != nil {
		var zero R
		return zero, err
	}
	return child.Result(ctx)
}

// CallEach runs a job of another kind for each item as a child of the running one,
// at most [MaxChildren], and returns their results in the order of the items. The
// parent is parked meanwhile and woken once, when the last of them has ended. Keys
// must differ, be the same for the same item whenever the parent is run, and keep
// to the form of a step's name.
//
// The error joins a *[ChildError] for each child that has not completed; the results
// of the others are there all the same. Otherwise as [Spawn] and [Child.Result].
func CallEach[Item, P, R any](
	ctx context.Context, name string, items []Item, key func(Item) string, kind Kind[P, R], payload func(Item) P, options ...JobOption,
) ([]R, error) {
	names := make([]string, len(items))
	for i, item := range items {
		names[i] = key(item)
	}
	if err := checkItems(name, names); err != nil {
		return nil, Permanent(err)
	}
	f, err := newFamily(ctx, name, kind.definition, names, func(i int, key string) Job { return kind.job(key, payload(items[i]), options) })
	if err != nil {
		return nil, err
	}
	ended, err := f.wait(ctx)
	if err != nil {
		return nil, err
	}
	results, errs := make([]R, len(items)), []error(nil)
	for i := range ended {
		result, err := outcome(f, i, ended[i], kind.ended)
		if err != nil {
			errs = append(errs, err)
		}
		results[i] = result
	}
	if len(errs) > 0 {
		return results, &StepError{Step: name, Err: errors.Join(errs...)}
	}
	return results, nil
}

// roundName is a group's name in a round of a job that continues: children of an
// earlier one are others, and tell of themselves by their own name.
func roundName(name string, round int) string {
	if round == 0 {
		return name
	}
	return fmt.Sprintf("%s~%d", name, round)
}

func checkItems(name string, items []string) error {
	if err := bounded("children of "+name, len(items), 0, MaxChildren); err != nil {
		return err
	}
	seen := make(map[string]bool, len(items))
	for _, item := range items {
		if err := checkItem(name, item); err != nil {
			return err
		}
		if seen[item] {
			return &InvalidError{Field: "key of a child of " + name, Value: item, Bound: "of one item only"}
		}
		seen[item] = true
	}
	return nil
}

func checkItem(name, item string) error {
	if CheckStep(item) != nil {
		return &InvalidError{Field: "key of a child of " + name, Value: item, Bound: "in the form of a step's name"}
	}
	return nil
}

// ChildKey returns the key of the child that a job makes under a name; item is "" for
// [Spawn] and [Call], and the item's key for [CallEach]. It reads
// <parent>~<name> or <parent>~~… with a digest where that would be ambiguous or too long. In round n of a
// parent that continues ([ContinueAs]) the name is followed by ~ and n.
func ChildKey(parent, name, item string) string {
	key := parent + "~" + name
	if item != "" {
		key += "~~" + item
	}
	if len(key) <= MaxKeyLength && !strings.ContainsAny(name+item, "~/") && !strings.HasSuffix(parent, "~") {
		return key
	}
	h := sha256.New()
	for _, part := range []string{parent, name, item} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return parent[:min(len(parent), 150)] + "~~~" + hex.EncodeToString(h.Sum(nil)[:20])
}

// ParentInfo says whose child a job is.
type ParentInfo struct {
	Queue string `json:"queue"`
	Key   string `json:"key"`
}

// ChildrenInfo is what is known of the children that a job has made under one name.
type ChildrenInfo struct {
	Name   string `json:"name"`
	Queue  string `json:"queue"`
	Kind   string `json:"kind"`
	Total  int    `json:"total"`
	Open   int    `json:"open"`   // not known to have ended
	Failed int    `json:"failed"` // known once the parent has read them
}

// FailedChildren returns how many failures the record of a group of children tells
// of, for those who show it.
func FailedChildren(record []byte) int {
	var failed []childRecord
	if len(record) == 0 || record[0] != someFailed || json.Unmarshal(record[1:], &failed) != nil {
		return 0
	}
	return len(failed)
}

// family is a group of children inside of a handler.
type family struct {
	a        Attempt
	group    Group
	began    time.Time
	recorded []byte // how they have ended; nil: not recorded yet
}

func newFamily(ctx context.Context, name string, d Definition, items []string, job func(i int, key string) Job) (*family, error) {
	a, err := attemptFrom(ctx, "spawn "+name)
	if err != nil {
		return nil, err
	}
	if err := CheckStep(name); err != nil {
		return nil, Permanent(err)
	}
	if flowOf(ctx).isParked() {
		return nil, fmt.Errorf("spawn %q: %w", name, ErrParked)
	}
	about := a.About()
	name = roundName(name, about.Round)
	f := &family{a: a, began: time.Now(), group: Group{Name: name, Kind: d.Name, Queue: d.Queue, Items: items, Jobs: make([]Job, len(items))}}
	for i, item := range items {
		j := job(i, ChildKey(about.Key, name, item))
		if j.err != nil {
			return nil, fmt.Errorf("spawn %q: %w", name, j.err)
		}
		j.Tenant = cmp.Or(j.Tenant, about.Tenant)
		f.group.Queue, f.group.Detached, f.group.Jobs[i] = j.Queue, j.detached, j
	}
	output, recorded, err := a.Enter(name)
	if err != nil {
		return nil, fmt.Errorf("spawn %q: %w", name, err)
	}
	if recorded {
		f.recorded, f.group.Recorded = output, true
	}
	return f, nil
}

// wait returns how the children have ended, or parks. What is recorded of failures
// holds, whatever has become of those children since.
func (f *family) wait(ctx context.Context) ([]Ended, error) {
	name := f.group.Name
	if flowOf(ctx).isParked() {
		return nil, fmt.Errorf("children %q: %w", name, ErrParked)
	}
	if _, undoing := f.a.Undoing(); undoing && f.recorded == nil {
		return nil, fmt.Errorf("children %q: %w", name, ErrUndoing)
	}
	var ended []Ended
	if len(f.group.Items) > 0 {
		var ready bool
		var err error
		if ended, ready, err = f.a.Children(ctx, f.group, true); err != nil {
			return nil, fmt.Errorf("children %q: %w", name, err)
		}
		if !ready {
			flowOf(ctx).park()
			return nil, fmt.Errorf("children %q: %w", name, ErrParked)
		}
	}
	if f.recorded != nil {
		return ended, f.recall(ended)
	}
	record := f.record(ended)
	if err := f.a.Commit(ctx, name, record, f.began, false); err != nil {
		return nil, fmt.Errorf("record children %q: %w", name, err)
	}
	f.recorded, f.group.Recorded = record, true
	return ended, f.recall(ended)
}

// What the record of a group begins with. Scripts look at it: a replay forgets the
// failures.
const (
	allCompleted = 'c'
	someFailed   = 'f' // and then the failures, a JSON array of childRecord
)

// childRecord is a failed child in the record of its group.
type childRecord struct {
	Item    string `json:"item"`
	State   string `json:"state"`
	Class   Class  `json:"class,omitempty"`
	Message string `json:"message,omitempty"`
}

// messagesKept bounds the record of a group with many failures; those after it are
// kept without their message.
const messagesKept = 100

func (f *family) record(ended []Ended) []byte {
	var failed []childRecord
	for i, e := range ended {
		if e.State == StateCompleted {
			continue
		}
		r := childRecord{Item: f.group.Items[i], State: string(e.State), Class: e.Class}
		if len(failed) < messagesKept {
			r.Message = cleanText(e.Message, maxMessage)
		}
		failed = append(failed, r)
	}
	if len(failed) == 0 {
		return []byte{allCompleted}
	}
	list, _ := json.Marshal(failed) // of texts, which cannot fail
	return append([]byte{someFailed}, list...)
}

// recall puts the recorded failures in the place of what was found. A child that
// had completed and has no record any more is gone.
func (f *family) recall(ended []Ended) error {
	var failed []childRecord
	ok := len(f.recorded) > 0 && f.recorded[0] == allCompleted
	if len(f.recorded) > 0 && f.recorded[0] == someFailed {
		ok = json.Unmarshal(f.recorded[1:], &failed) == nil
	}
	if !ok {
		return Permanent(fmt.Errorf("%q is not recorded as children (has the handler changed? raise the kind's version)", f.group.Name))
	}
	byItem := make(map[string]childRecord, len(failed))
	for _, r := range failed {
		byItem[r.Item] = r
	}
	for i, item := range f.group.Items {
		if r, is := byItem[item]; is {
			ended[i] = Ended{State: State(r.State), Class: r.Class, Message: r.Message}
		} else if ended[i].State != StateCompleted {
			ended[i] = Ended{State: StateGone, Message: "it had completed, and its record was deleted since"}
		}
	}
	return nil
}

// outcome is a child's result, or its failure.
func outcome[R any](f *family, i int, e Ended, decode func(Ended) (R, error)) (R, error) {
	job := f.group.Jobs[i]
	if e.State != StateCompleted {
		var zero R
		return zero, &ChildError{Queue: job.Queue, Key: job.Key, State: e.State, Class: e.Class, Message: e.Message}
	}
	result, err := decode(e)
	if err != nil {
		return result, Permanent(fmt.Errorf("result of child %s/%s: %w", job.Queue, job.Key, err))
	}
	return result, nil
}

// job makes a job of the kind that may be a child.
func (k Kind[P, R]) job(key string, payload P, options []JobOption) Job {
	j := newJob(k.definition, key, options)
	if k.err != nil {
		j.err = k.err
		return j
	}
	if err := validate(&payload); err != nil {
		j.err = errors.Join(j.err, &payloadError{fmt.Errorf("payload of kind %q: %w", k.definition.Name, err)})
	}
	j.encode(k.definition, payload)
	return j
}

// ended decodes the result of a child that has completed.
func (k Kind[P, R]) ended(e Ended) (R, error) {
	return k.Result(Info{Kind: k.definition.Name, State: e.State}.WithResult(e.Result))
}
