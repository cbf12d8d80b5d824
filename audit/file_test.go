package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/fault"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// exported is what an export writes.
func (f *fixture) exported() []byte {
	f.t.Helper()
	var out bytes.Buffer
	_, err := audit.Export(context.Background(), f.Store, "", &out, nil)
	f.ok(err)
	return out.Bytes()
}

func (f *fixture) verifyFile(text []byte, known ...delivery.Seal) audit.Finding {
	f.t.Helper()
	found, err := audit.VerifyFile(bytes.NewReader(text), f.keys, known)
	f.ok(err)
	if len(found) == 0 {
		f.t.Fatal("the file has nothing")
	}
	return found[len(found)-1]
}

func TestExportAndVerifyFile(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.decide(3)
	first := f.seal()
	f.ok(f.Record(t.Context(), "q", "odd", "what", "no text \xff", jobs.Decision{Actor: "ada <&>", Reason: "\xfe\xff"}))
	f.decide(1)
	second := f.seal()
	f.decide(2)
	text := f.exported()
	f.wantWhole(f.verifyFile(text), 7, 2, 2)
	f.wantWhole(f.verifyFile(text, first, second), 7, 2, 2)
	seals, err := audit.ReadSeals(bytes.NewReader(text))
	if err != nil || len(seals) != 2 || seals[0] != first || seals[1] != second {
		t.Errorf("%+v, %v", seals, err)
	}
	var only bytes.Buffer
	if done, err := audit.ExportSeals(t.Context(), f.Store, "q", &only); err != nil || done.Seals != 2 {
		t.Errorf("%+v, %v", done, err)
	}
	if seals, err = audit.ReadSeals(&only); err != nil || len(seals) != 2 || seals[1] != second {
		t.Errorf("%+v, %v", seals, err)
	}
	if has, err := audit.Count(bytes.NewReader(text)); err != nil || has != (audit.Exported{Streams: 1, Events: 7, Seals: 2}) {
		t.Errorf("%+v, %v", has, err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	without := func(i ...int) []byte {
		var left [][]byte
		for n, line := range lines {
			gone := false
			for _, one := range i {
				gone = gone || n == one
			}
			if !gone {
				left = append(left, line)
			}
		}
		return bytes.Join(left, nil)
	}
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"edited":      {bytes.Replace(text, []byte(`"reason":"because"`), []byte(`"reason":"mercy"`), 1), "it was edited"},
		"binary":      {bytes.Replace(text, []byte(`"reason":"/v8="`), []byte(`"reason":"/f8="`), 1), "it was edited"},
		"cut out":     {without(1), "it is number 3 after number 1"},
		"cut off":     {without(2), "its decision is gone"},
		"no seal":     {without(3), "it is not the first, and those before it were cut off"},
		"exchanged":   {bytes.Join([][]byte{lines[1], lines[0], without(0, 1)}, nil), "those before it were cut off"},
		"half a line": {text[:len(text)-10], "it is no JSON object of an export"},
		"no export":   {[]byte("{}\n"), `its format is ""`},
		"nothing in":  {[]byte(`{"format":"perdure-audit-1"}` + "\n"), "it is neither"},
	} {
		t.Log(name)
		f.wantBroken(f.verifyFile(c.text), c.want)
	}
	f.wantBroken(f.verifyFile(bytes.Join(lines[:4], nil), second), "the given seal of decision 5 is not here")
	if _, err := audit.ReadSeals(strings.NewReader("{}\n")); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("no seals: %v", err)
	}
}

func (f *fixture) moveOut(path string, before time.Time) ([]audit.Moved, error) {
	return audit.MoveOut(context.Background(), f.Store, f.keys, "", path, before, why, nil)
}

func (f *fixture) read(path string) []byte {
	f.t.Helper()
	text, err := os.ReadFile(path)
	f.ok(err)
	return text
}

func TestMoveOut(t *testing.T) {
	t.Parallel()
	f := open(t)
	path := filepath.Join(t.TempDir(), "moved")
	f.decide(3)
	first := f.seal()
	f.decide(3)
	second := f.seal()
	f.decide(2)
	moved, err := f.moveOut(path, time.Time{})
	if err != nil || len(moved) != 1 || moved[0] != (audit.Moved{Stream: "q", From: 1, To: 6}) {
		t.Fatalf("%+v, %v", moved, err)
	}
	found := f.verify(first, second)
	f.wantWhole(found, 3, 0, 3)
	if found.MovedOut != 6 || found.MovedAt.IsZero() || found.SealedTo != 6 {
		t.Errorf("%+v", found)
	}
	f.wantWhole(f.verifyFile(f.read(path)), 6, 2, 0)
	if moved, err = f.moveOut(path, time.Time{}); err != nil || len(moved) != 0 {
		t.Errorf("again: %+v, %v", moved, err)
	}
	f.seal()
	f.wantWhole(f.verify(first, second), 3, 1, 0)
	part := f.exported() // begins with the anchor
	found = f.verifyFile(part)
	f.wantWhole(found, 3, 1, 0)
	if found.MovedOut != 6 {
		t.Errorf("%+v", found)
	}
	if moved, err = f.moveOut(path, time.Time{}); err != nil || len(moved) != 1 || moved[0] != (audit.Moved{Stream: "q", From: 7, To: 9}) {
		t.Fatalf("the rest: %+v, %v", moved, err)
	}
	f.wantWhole(f.verifyFile(f.read(path)), 9, 3, 0)
	f.wantWhole(f.verify(), 1, 0, 1)
	var what delivery.Link
	f.ok(audit.List(t.Context(), f.Store, audit.Filter{Stream: "q"}, func(l delivery.Link) bool { what = l; return true }))
	if what.What != "move out" || what.Reason != "because (to moved)" || what.Before != "decisions 7 to 9 in Redis" || what.After != "in moved" {
		t.Errorf("%+v", what)
	}
	f.seal()
	other := filepath.Join(t.TempDir(), "other")
	if moved, err = f.moveOut(other, time.Time{}); err != nil || len(moved) != 1 {
		t.Fatalf("to another file: %+v, %v", moved, err)
	}
	found = f.verifyFile(f.read(other))
	f.wantWhole(found, 1, 1, 0)
	f.seal()
	if _, err = f.moveOut(path, time.Time{}); !errors.Is(err, jobs.ErrConflict) || !strings.Contains(err.Error(), "those up to 10 are in another one") {
		t.Errorf("to the first file again: %v", err)
	}
	f.wantWhole(f.verify(), 1, 1, 0)
}

func TestMoveOutRefuses(t *testing.T) {
	t.Parallel()
	f := open(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "moved")
	f.decide(2)
	if moved, err := f.moveOut(path, time.Time{}); err != nil || len(moved) != 0 {
		t.Errorf("what is not sealed: %+v, %v", moved, err)
	}
	f.seal()
	if moved, err := f.moveOut(path, time.Now().Add(-time.Hour)); err != nil || len(moved) != 0 {
		t.Errorf("before there was any: %+v, %v", moved, err)
	}
	mine := f.keys
	f.keys = audit.Keys{}
	if _, err := f.moveOut(path, time.Time{}); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("without a key: %v", err)
	}
	f.keys = mine
	if _, err := audit.MoveOut(t.Context(), f.Store, f.keys, "", path, time.Time{}, jobs.Decision{Actor: "ada", Reason: strings.Repeat("r", 1000)}, nil); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("a reason that is too long: %v", err)
	}
	if _, err := audit.MoveOut(t.Context(), f.Store, f.keys, "", path, time.Time{}, jobs.Decision{Actor: "ada"}, nil); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("without a reason: %v", err)
	}
	if _, err := f.moveOut(filepath.Join(dir, "none", "f"), time.Time{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such folder: %v", err)
	}
	f.decide(1)
	f.seal()
	lines := bytes.SplitAfter(f.exported(), []byte("\n"))
	for name, text := range map[string]string{"letters": "dear ada,\nbye\n", "broken": `{"format":"perdure-audit-1"}` + "\n", "without a seal": string(bytes.Join([][]byte{lines[0], lines[1], lines[3]}, nil))} {
		other := filepath.Join(dir, name)
		f.ok(os.WriteFile(other, []byte(text), 0o600))
		if _, err := f.moveOut(other, time.Time{}); !errors.Is(err, jobs.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
		if string(f.read(other)) != text {
			t.Errorf("%s has become %s", name, f.read(other))
		}
	}
	events := f.stream(eventsKey)
	f.replace(eventsKey, anew(events, 0, map[string]string{"actor": "eve"}))
	if _, err := f.moveOut(path, time.Time{}); !errors.Is(err, jobs.ErrConflict) || !strings.Contains(err.Error(), "they are not as they were written") {
		t.Errorf("what is broken: %v", err)
	}
	if len(f.stream(eventsKey)) != 3 {
		t.Error("something was moved")
	}
}

// dying writes the file and dies before, or after, it takes anything out of Redis.
type dying struct {
	*store.Store
	after bool
}

var errDied = errors.New("killed")

func (d dying) Trim(ctx context.Context, before, anchor delivery.Anchor, file string, by jobs.Decision) error {
	if d.after {
		return errors.Join(errDied, d.Store.Trim(ctx, before, anchor, file, by))
	}
	return errDied
}

// Killed between file and Redis, the same command goes on, and nothing is lost or
// twice in the file.
func TestMoveOutIsKilled(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		f := open(t)
		path := filepath.Join(t.TempDir(), "moved")
		f.decide(700)
		f.seal()
		if _, err := audit.MoveOut(t.Context(), dying{f.Store, after}, f.keys, "", path, time.Time{}, why, nil); !errors.Is(err, errDied) {
			t.Fatal(err)
		}
		cut, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
		f.ok(err)
		_, err = cut.WriteString(`{"format":"perdure-audit-1","event":{"stre`) // the next write was cut off
		f.ok(errors.Join(err, cut.Close()))
		f.decide(5)
		f.seal()
		if _, err := f.moveOut(path, time.Time{}); err != nil {
			t.Fatal(err)
		}
		events := int64(705)
		if after {
			events++ // the first move
		}
		f.wantWhole(f.verifyFile(f.read(path)), events, 2, 0)
		found := f.verify()
		f.wantWhole(found, 1, 0, 1)
		if found.MovedOut != events {
			t.Errorf("%+v", found)
		}
	}
}

// Killed while it writes, wherever that is, the same command goes on.
func TestMoveOutIsKilledWhileItWrites(t *testing.T) {
	t.Parallel()
	f := open(t)
	path := filepath.Join(t.TempDir(), "moved")
	for i := range 4 {
		f.decide(3)
		f.ok(f.Record(t.Context(), delivery.Schedules, fmt.Sprint(i), "what", "", why))
		if _, err := f.sealer().SealAll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := audit.MoveOut(t.Context(), dying{f.Store, false}, f.keys, delivery.Schedules, path, time.Time{}, why, nil); !errors.Is(err, errDied) {
		t.Fatal(err)
	}
	if _, err := audit.MoveOut(t.Context(), dying{f.Store, false}, f.keys, "q", path, time.Time{}, why, nil); !errors.Is(err, errDied) {
		t.Fatal(err)
	}
	whole := f.read(path)
	for cut := 0; cut <= len(whole); cut += 37 {
		f.ok(os.WriteFile(path, whole[:cut], 0o600))
		if _, err := audit.MoveOut(t.Context(), dying{f.Store, false}, f.keys, "", path, time.Time{}, why, nil); !errors.Is(err, errDied) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		f.ok(os.WriteFile(path, whole[:cut], 0o600))
		if _, err := audit.MoveOut(t.Context(), dying{f.Store, false}, f.keys, "q", path, time.Time{}, why, nil); !errors.Is(err, errDied) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		f.wantWhole(f.verifyFile(f.read(path)), 12, 4, 0)
	}
	if moved, err := f.moveOut(path, time.Time{}); err != nil || len(moved) != 2 {
		t.Errorf("%+v, %v", moved, err)
	}
	f.wantWhole(f.verify(), 1, 0, 1)
}

// Whatever call fails, before or after it ran, or goes out twice: what was moved is in
// the file once, and what follows holds.
func TestMoveOutOverABadNetwork(t *testing.T) {
	t.Parallel()
	faults := 0
	for seed := range uint64(5) {
		f := open(t)
		path := filepath.Join(t.TempDir(), "moved")
		for range 3 {
			f.decide(4)
			f.seal()
		}
		hook := fault.New(fault.Options{Seed: seed, Before: 0.05, After: 0.05, Twice: 0.1, Script: store.ScriptName})
		f.rdb.AddHook(hook)
		for {
			if _, err := f.moveOut(path, time.Time{}); err == nil {
				break
			} else if !errors.Is(err, jobs.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		for {
			found, err := audit.Verify(t.Context(), f.Store, f.keys, "q", nil)
			if err != nil {
				continue
			}
			f.wantWhole(found[0], 1, 0, 1)
			break
		}
		f.wantWhole(f.verifyFile(f.read(path)), 12, 3, 0)
		faults += hook.Total().Before + hook.Total().After
	}
	if faults == 0 {
		t.Error("no call has failed")
	}
}

// An anchor that somebody has edited is found in a file too.
func TestAForgedAnchorInAFile(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.decide(3)
	f.seal()
	_, err := f.moveOut(filepath.Join(t.TempDir(), "moved"), time.Time{})
	f.ok(err)
	text := f.exported()
	var line map[string]map[string]any
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	_ = json.Unmarshal(first, &line)
	if line["anchor"] == nil {
		t.Fatalf("%s", first)
	}
	f.wantWhole(f.verifyFile(text), 1, 0, 1)
	f.wantBroken(f.verifyFile(append(bytes.Replace(first, []byte(`"n":3`), []byte(`"n":2`), 1), append([]byte("\n"), rest...)...)), "the anchor of what was moved out: its MAC")
	f.wantBroken(f.verifyFile(rest), "its decision is gone")
}

// interrupted is a store in which something happens before its nth page of decisions.
type interrupted struct {
	*store.Store
	left int
	do   func()
}

func (i *interrupted) Chain(ctx context.Context, stream, after string, limit int) ([]delivery.Link, error) {
	if i.left--; i.left == 0 {
		i.do()
	}
	return i.Store.Chain(ctx, stream, after, limit)
}

// TestExportWhileOthersMoveOut: an export that may lack decisions does not end well.
func TestExportWhileOthersMoveOut(t *testing.T) {
	t.Parallel()
	for page := 1; page <= 2; page++ {
		f := open(t)
		f.decide(700)
		f.seal()
		var out bytes.Buffer
		_, err := audit.Export(t.Context(), &interrupted{f.Store, page, func() {
			_, err := audit.MoveOut(t.Context(), f.Store, f.keys, "q", filepath.Join(t.TempDir(), "moved"), time.Time{}, why, nil)
			f.ok(err)
		}}, "q", &out, nil)
		if !errors.Is(err, jobs.ErrConflict) || !strings.Contains(err.Error(), "export again") {
			t.Errorf("moved out before page %d: %v", page, err)
		}
	}
}
