package deadletter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// quarantine is one with n entries.
func quarantine(t *testing.T, n int) (*store.Store, *deadletter.Quarantine) {
	t.Helper()
	client := redistest.Client(t)
	s := store.New(client, client)
	for i := range n {
		isolate(t, s, fmt.Sprint("k", i), fmt.Sprintf("row %d is bad", i))
	}
	return s, deadletter.New(s)
}

func exported(t *testing.T, q *deadletter.Quarantine) string {
	t.Helper()
	var out bytes.Buffer
	if _, err := q.Export(t.Context(), "", deadletter.Filter{}, &out, nil); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestWhatIsExportedComesBack(t *testing.T) {
	t.Parallel()
	s, q := quarantine(t, 3)
	text := exported(t, q)
	before, err := q.Show(t.Context(), "default", "k1")
	if err != nil || strings.Count(text, "\n") != 3 {
		t.Fatalf("%v %s", err, text)
	}
	n, err := q.DiscardAll(t.Context(), "default", deadletter.Filter{}, why, nil)
	if err != nil || n != 3 {
		t.Fatalf("%d, %v", n, err)
	}
	isolate(t, s, "k0", "another job of the key")
	done, err := q.Import(t.Context(), strings.NewReader(text), why, nil)
	if err != nil || done.Restored != 2 || done.Conflict != 1 || done.Broken != 0 || len(done.Problems) != 1 {
		t.Errorf("%v %+v", err, done)
	}
	after, err := q.Show(t.Context(), "default", "k1")
	if err != nil || fmt.Sprintf("%+v", after) != fmt.Sprintf("%+v", before) {
		t.Errorf("%v %+v, want %+v", err, after, before)
	}
	if done, err := q.Import(t.Context(), strings.NewReader(text), why, nil); err != nil || done.Restored != 0 || done.There != 2 {
		t.Errorf("again: %v %+v", err, done)
	}
	if info, err := q.Replay(t.Context(), "default", "k1", false, why); err != nil || len(info.Steps) != 1 || info.Incarnation != before.Incarnation {
		t.Errorf("replay: %v %+v", err, info)
	}
}

func TestBrokenLinesAreNotImported(t *testing.T) {
	t.Parallel()
	_, q := quarantine(t, 1)
	text := strings.TrimSpace(exported(t, q))
	if _, err := q.DiscardAll(t.Context(), "", deadletter.Filter{}, why, nil); err != nil {
		t.Fatal(err)
	}
	broken := []string{
		text[:len(text)/2], `{}`, `[]`, strings.Replace(text, `"key":"k0"`, `"key":"k1"`, 1), strings.Replace(text, `"p:run":"1"`, `"p:run":"2"`, 1),
		strings.Replace(text, "perdure-dead-1", "perdure-dead-2", 1), strings.Replace(text, `"queue":"default"`, `"queue":"other"`, 1),
	}
	done, err := q.Import(t.Context(), strings.NewReader(strings.Join(broken, "\n")+"\n\n"), why, nil)
	if err != nil || done.Broken != len(broken) || done.Restored != 0 {
		t.Errorf("%v %+v", err, done)
	}
	if _, err := q.Import(t.Context(), strings.NewReader(text), jobs.Decision{}, nil); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("without a reason: %v", err)
	}
	if done, err := q.Import(t.Context(), strings.NewReader(text), why, nil); err != nil || done.Restored != 1 {
		t.Errorf("the whole line: %v %+v", err, done)
	}
}

func TestMoveOut(t *testing.T) {
	t.Parallel()
	s, q := quarantine(t, 5)
	dir := t.TempDir()
	path := filepath.Join(dir, "moved")
	if err := os.WriteFile(path, []byte(`{"format":"perdure-dead-1","cut off by a cra`), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := q.MoveOut(t.Context(), "default", deadletter.Filter{Key: "k3"}, path, why, nil)
	if err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	told := 0
	if n, err = q.MoveOut(t.Context(), "", deadletter.Filter{}, path, why, func(moved int) { told = moved }); err != nil || n != 4 || told != 4 {
		t.Fatalf("%d, %d, %v", n, told, err)
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), "\n") != 5 || !strings.HasPrefix(string(text), `{"format":"perdure-dead-1","class":`) {
		t.Fatalf("%v %s", err, text)
	}
	events, err := s.Events(t.Context(), "default", 1)
	if err != nil || events[0].What != "move out" || events[0].Reason != "mended (to moved)" {
		t.Errorf("%v %+v", err, events)
	}
	if done, err := q.Import(t.Context(), bytes.NewReader(text), why, nil); err != nil || done.Restored != 5 {
		t.Errorf("%v %+v", err, done)
	}
	if n, err := q.MoveOut(t.Context(), "", deadletter.Filter{}, path, jobs.Decision{Actor: "ada"}, nil); !errors.Is(err, jobs.ErrInvalid) || n != 0 {
		t.Errorf("without a reason: %d, %v", n, err)
	}
	other := filepath.Join(dir, "letters")
	if err := os.WriteFile(other, []byte("dear ada,\nbye"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := q.MoveOut(t.Context(), "", deadletter.Filter{}, other, why, nil); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("to a file of something else: %v", err)
	}
	if text, _ := os.ReadFile(other); string(text) != "dear ada,\nbye" {
		t.Errorf("it has become %q", text)
	}
}

// changing hands out records, and changes the last one's job before it is taken out.
type changing struct {
	deadletter.Store
	s *store.Store
	t *testing.T
}

func (c changing) DeadRecords(ctx context.Context, queue string, keys []string) ([]delivery.DeadRecord, error) {
	records, err := c.Store.DeadRecords(ctx, queue, keys)
	if _, err := c.s.Replay(ctx, queue, keys[0], false, why); err != nil {
		c.t.Error(err)
	}
	isolate(c.t, c.s, "unused", "bad again") // claims what was replayed
	return records, err
}

// An entry that has changed since it was written stays.
func TestMoveOutLeavesWhatHasChanged(t *testing.T) {
	t.Parallel()
	s, _ := quarantine(t, 3)
	n, err := deadletter.New(changing{s, s, t}).MoveOut(t.Context(), "default", deadletter.Filter{}, filepath.Join(t.TempDir(), "f"), why, nil)
	if err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	if _, err := deadletter.New(s).Show(t.Context(), "default", "k0"); err != nil {
		t.Error(err)
	}
}

// Discard meets an entry that has failed anew since it was listed, with another failure.
func TestDiscardLeavesWhatHasFailedAnew(t *testing.T) {
	t.Parallel()
	s, q := quarantine(t, 3)
	page, err := q.List(t.Context(), deadletter.Query{Filter: deadletter.Filter{Text: "is bad"}})
	if err != nil || len(page.Entries) != 3 {
		t.Fatalf("%v %+v", err, page)
	}
	if _, err := s.Replay(t.Context(), "default", "k1", false, why); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Discard(t.Context(), "default", "k2", why); err != nil {
		t.Fatal(err)
	}
	for !s.Redis().Time(t.Context()).Val().After(page.Entries[1].At.Add(time.Millisecond)) { // the next millisecond is another time
	}
	fail(t, s, "charged twice")
	if n, err := q.DiscardListed(t.Context(), page.Entries, why); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	if e, err := q.Show(t.Context(), "default", "k1"); err != nil || e.Message != "charged twice" {
		t.Errorf("%v %+v", err, e)
	}
	if n, err := q.DiscardAll(t.Context(), "default", deadletter.Filter{Text: "charged"}, why, nil); err != nil || n != 1 {
		t.Errorf("listed as it is now: %d, %v", n, err)
	}
	if _, err := q.DiscardListed(t.Context(), page.Entries, jobs.Decision{Actor: "ada"}); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("without a reason: %v", err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestAnExportThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	_, q := quarantine(t, 2)
	if _, err := q.Export(t.Context(), "", deadletter.Filter{}, full{}, nil); !errors.Is(err, io.ErrShortWrite) {
		t.Error(err)
	}
	if _, err := q.MoveOut(t.Context(), "", deadletter.Filter{}, filepath.Join(t.TempDir(), "none", "f"), why, nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	s, q := quarantine(t, 4)
	if _, err := s.Erase(t.Context(), "default", "k1", why); err != nil {
		t.Fatal(err)
	}
	c, err := q.Count(t.Context(), "default", deadletter.Filter{Text: "row"}, nil)
	if err != nil || c.Entries != 4 || c.Replayable != 3 || len(c.Signatures) != 1 || c.Oldest.IsZero() || c.Newest.Before(c.Oldest) {
		t.Errorf("%v %+v", err, c)
	}
	if n, err := q.DiscardAll(t.Context(), "default", deadletter.Filter{Since: c.Newest.AddDate(1, 0, 0)}, why, nil); err != nil || n != 0 {
		t.Errorf("discard of what is to come: %d, %v", n, err)
	}
	if _, err := q.DiscardAll(t.Context(), "default", deadletter.Filter{}, jobs.Decision{Actor: "ada"}, nil); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("without a reason: %v", err)
	}
}

// Task IDs of other clients are no keys that perdure would give a new job.
func TestEntriesOfOtherClientsMoveToo(t *testing.T) {
	t.Parallel()
	s, q := quarantine(t, 1)
	rdb := s.Redis()
	client := asynq.NewClientFromRedisClient(rdb)
	for _, key := range []string{"tenant/42", "a b", "_x", "p1#2", "mail:ü", strings.Repeat("long", 1000)} {
		if _, err := client.Enqueue(asynq.NewTask("mail:send", nil), asynq.TaskID(key)); err != nil {
			t.Fatal(err)
		}
		fail(t, s, "no such address")
	}
	for key, message := range map[string]string{"\xff": "damaged", "emptied": ""} { // written by hand
		rdb.HSet(t.Context(), "asynq:{default}:t:"+key, "msg", message, "state", "pending")
		rdb.LPush(t.Context(), "asynq:{default}:pending", key)
		fail(t, s, "it cannot be read")
	}
	path := filepath.Join(t.TempDir(), "moved")
	if n, err := q.MoveOut(t.Context(), "default", deadletter.Filter{}, path, why, nil); err != nil || n != 9 {
		t.Fatalf("%d, %v", n, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if done, err := q.Import(t.Context(), bytes.NewReader(text), why, nil); err != nil || done.Restored != 9 {
		t.Errorf("%v %+v", err, done)
	}
	for _, key := range []string{"tenant/42", "\xff", "emptied"} {
		if e, err := q.Show(t.Context(), "default", key); err != nil || e.Key != key {
			t.Errorf("%q: %v %+v", key, err, e)
		}
	}
}

// What moves out comes back, also where its entry cannot be read.
func TestDamagedEntriesComeBack(t *testing.T) {
	t.Parallel()
	s, q := quarantine(t, 3)
	s.Redis().HSet(t.Context(), "asynq:{default}:t:k0", "p:dead", "garbage")
	s.Redis().HDel(t.Context(), "asynq:{default}:t:k1", "p:dead")
	path := filepath.Join(t.TempDir(), "moved")
	if n, err := q.MoveOut(t.Context(), "default", deadletter.Filter{}, path, why, nil); err != nil || n != 3 {
		t.Fatalf("%d, %v", n, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []deadletter.Imported{{Restored: 3, Problems: []string{}}, {There: 3, Problems: []string{}}} {
		if done, err := q.Import(t.Context(), bytes.NewReader(text), why, nil); err != nil || fmt.Sprint(done) != fmt.Sprint(want) {
			t.Errorf("%v %+v, want %+v", err, done, want)
		}
	}
	for key, rule := range map[string]string{"k0": "archived elsewhere", "k1": "archived elsewhere", "k2": "permanent"} {
		if e, err := q.Show(t.Context(), "default", key); err != nil || e.Rule != rule || e.Kind != "sum" {
			t.Errorf("%v %+v", err, e)
		}
	}
	if got := s.Redis().HGet(t.Context(), "asynq:{default}:t:k0", "p:dead").Val(); got != "garbage" {
		t.Errorf("it has become %q", got)
	}
}

// refusing takes no entry of the key k1 back.
type refusing struct{ deadletter.Store }

func (r refusing) Restore(ctx context.Context, d delivery.DeadRecord, by jobs.Decision) (bool, error) {
	if d.Key == "k1" {
		return false, &jobs.InvalidError{Field: "record", Value: "odd", Bound: "another"}
	}
	return r.Store.Restore(ctx, d, by)
}

func TestALineThatIsRefusedIsPassedOver(t *testing.T) {
	t.Parallel()
	s, q := quarantine(t, 3)
	text := exported(t, q)
	if _, err := q.DiscardAll(t.Context(), "", deadletter.Filter{}, why, nil); err != nil {
		t.Fatal(err)
	}
	done, err := deadletter.New(refusing{s}).Import(t.Context(), strings.NewReader(text), why, nil)
	if err != nil || done.Restored != 2 || done.Broken != 1 || len(done.Problems) != 1 || !strings.HasPrefix(done.Problems[0], "line 2: record") {
		t.Errorf("%v %+v", err, done)
	}
}

// unreadable hands out records that no line can hold.
type unreadable struct{ deadletter.Store }

func (u unreadable) DeadRecords(ctx context.Context, queue string, keys []string) ([]delivery.DeadRecord, error) {
	records, err := u.Store.DeadRecords(ctx, queue, keys)
	delete(records[1].Fields, "msg")
	return records, err
}

func TestWhatCannotBeReadBackIsNotWritten(t *testing.T) {
	t.Parallel()
	s, q := quarantine(t, 3)
	path := filepath.Join(t.TempDir(), "moved")
	n, err := deadletter.New(unreadable{s}).MoveOut(t.Context(), "default", deadletter.Filter{}, path, why, nil)
	if n != 0 || err == nil || !strings.Contains(err.Error(), `entry default/"k1": it is not the record`) {
		t.Errorf("%d, %v", n, err)
	}
	if text, err := os.ReadFile(path); err != nil || len(text) != 0 {
		t.Errorf("the file has %q, %v", text, err)
	}
	if c, err := q.Count(t.Context(), "", deadletter.Filter{}, nil); err != nil || c.Entries != 3 {
		t.Errorf("%v %+v", err, c)
	}
}
