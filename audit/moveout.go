package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/perdure/perdure/internal/archive"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Trimming is what moving out needs of the store.
type Trimming interface {
	Chains
	Trim(ctx context.Context, before, anchor delivery.Anchor, file string, by jobs.Decision) error
}

// Moved is what was moved out of one stream.
type Moved struct {
	Stream string `json:"stream"`
	From   int64  `json:"from"` // the numbers of the first and the last decision
	To     int64  `json:"to"`
}

// MoveOut writes the sealed decisions of every stream, or of one, to the end of a file,
// sees that they are there and as they were sealed, and only then takes them out of
// Redis. An anchor stays, and the decision to move them out is recorded. Stopped by
// whatever, no decision is lost; the same call again goes on. before, unless it is zero, leaves
// what was decided then or later. ErrConflict: what is in Redis or in the file is not
// as it was written, or the file does not go on where Redis begins. told, when not nil,
// is called after each stream.
func MoveOut(ctx context.Context, s Trimming, keys Keys, stream, path string, before time.Time, by jobs.Decision, told func(Moved)) (moved []Moved, err error) {
	moved = []Moved{}
	if err := by.Check(); err != nil {
		return moved, err
	}
	by.Reason += " (to " + filepath.Base(path) + ")"
	if err := by.Check(); err != nil {
		return moved, err
	}
	if !keys.Seals() {
		return moved, &jobs.InvalidError{Field: settingKey, Value: "none", Bound: "a key: only what is sealed is moved out"}
	}
	names, err := streams(ctx, s, stream)
	if err != nil {
		return moved, err
	}
	file, err := archive.Open(path, `{"format":"`+format+`"`)
	if err != nil {
		return moved, fmt.Errorf("move decisions to a file: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	m := mover{s: s, keys: keys, file: file, before: before, by: by}
	if m.has, err = m.read(path); err != nil {
		return moved, fmt.Errorf("move decisions to %s: %w", path, err)
	}
	for _, name := range names {
		one, err := m.move(ctx, name)
		if err != nil {
			return moved, fmt.Errorf("move decisions of %s to %s: %w", name, path, err)
		}
		if one.To == 0 {
			continue
		}
		if moved = append(moved, one); told != nil {
			told(one)
		}
	}
	return moved, nil
}

type mover struct {
	s      Trimming
	keys   Keys
	file   *os.File
	has    *walks // what is in the file
	before time.Time
	by     jobs.Decision
}

// read reads what the file has already.
func (m *mover) read(path string) (*walks, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	has, err := walkFile(file, m.keys, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", jobs.ErrConflict, err)
	}
	for _, w := range has.all {
		if w.f.Why != "" {
			return nil, fmt.Errorf("it is not as it was written: %s, %s: %s: %w", w.f.Stream, w.f.Broken, w.f.Why, jobs.ErrConflict)
		}
	}
	return has, nil
}

// move moves one stream's decisions; the zero Moved says that there are none to move.
func (m *mover) move(ctx context.Context, stream string) (Moved, error) {
	found, err := verify(ctx, m.s, m.keys, stream, nil)
	if err == nil && found.Why != "" {
		err = fmt.Errorf("they are not as they were written; see audit verify: %s: %s: %w", found.Broken, found.Why, jobs.ErrConflict)
	}
	if err != nil {
		return Moved{}, err
	}
	head, err := m.s.StreamHead(ctx, stream)
	if err != nil {
		return Moved{}, err
	}
	last, err := m.last(ctx, stream, head.Anchor)
	if err != nil || last.N == 0 {
		return Moved{}, err
	}
	if err := m.write(ctx, stream, head.Anchor, last); err != nil {
		return Moved{}, err
	}
	anchor := m.keys.anchor(delivery.Anchor{
		Stream: stream, N: last.N, ID: last.ID, Hash: last.Hash, Seal: last.MAC, At: head.Now.Truncate(time.Millisecond), Key: m.keys.current,
	})
	if err := m.s.Trim(ctx, head.Anchor, anchor, filepath.Base(m.file.Name()), m.by); err != nil {
		return Moved{}, err
	}
	return Moved{stream, head.Anchor.N + 1, last.N}, nil
}

// last is the last seal up to which decisions are moved out; zero when there is none.
func (m *mover) last(ctx context.Context, stream string, anchor delivery.Anchor) (last delivery.Seal, err error) {
	err = ListSeals(ctx, m.s, stream, func(s delivery.Seal) error {
		if s.N > anchor.N && (m.before.IsZero() || s.Link().At().Before(m.before)) {
			last = s
		}
		return nil
	})
	return last, err
}

// flushAt is how many bytes are written at a time.
const flushAt = 1 << 20

// write writes what the file does not have yet, up to a seal, and holds what it reads
// back to the chain.
func (m *mover) write(ctx context.Context, stream string, anchor delivery.Anchor, last delivery.Seal) error {
	w := m.has.of(stream)
	if w.last.ID != "" && delivery.CompareIDs(w.last.ID, anchor.ID) < 0 {
		return fmt.Errorf("the file ends with decision %d, and those up to %d are in another one: %w", w.last.N, anchor.N, jobs.ErrConflict)
	}
	if err := m.goesOn(ctx, w); err != nil {
		return err
	}
	lines, wrong := bytes.Buffer{}, error(nil)
	put := func(l line, is bool) {
		if !is || wrong != nil {
			return
		}
		if wrong = json.NewEncoder(&lines).Encode(l); wrong == nil && lines.Len() >= flushAt {
			wrong = m.flush(&lines)
		}
	}
	event, seal := w.last.ID, w.seal.ID
	_, err := tell(ctx, m.s, stream, last.ID, teller{
		anchor: func(a delivery.Anchor) { put(line{Format: format, Anchor: &a}, event == "") },
		event:  func(l delivery.Link) { put(eventLine(l), delivery.CompareIDs(l.ID, event) > 0) },
		seal: func(s delivery.Seal) {
			put(line{Format: format, Seal: &s}, delivery.CompareIDs(s.ID, seal) > 0 && s.ID != anchor.ID)
		},
	})
	if err = errors.Join(err, wrong); err == nil {
		err = m.flush(&lines)
	}
	switch {
	case err != nil:
		return err
	case w.f.Why != "":
		return fmt.Errorf("what was written to the file does not hold: %s: %s: %w", w.f.Broken, w.f.Why, jobs.ErrConflict)
	case w.seal.MAC != last.MAC || w.f.SealedTo != last.N:
		return fmt.Errorf("the file does not end with decision %d and its seal: %w", last.N, jobs.ErrConflict)
	}
	return nil
}

// goesOn returns an error when what the file has of a stream cannot be continued. A file
// whose writer was killed ends before the next seal; one that was written for something
// else may lack a seal before its end.
func (m *mover) goesOn(ctx context.Context, w *walk) error {
	if w.last.ID == w.seal.ID {
		return nil
	}
	next, err := m.s.Seals(ctx, w.f.Stream, w.seal.ID, 1)
	if err == nil && len(next) == 1 && delivery.CompareIDs(next[0].ID, w.last.ID) < 0 {
		err = fmt.Errorf("the file has decisions without the seal of decision %d between them; use another one: %w", next[0].N, jobs.ErrConflict)
	}
	return err
}

// flush writes lines to the disk and reads them back from there.
func (m *mover) flush(lines *bytes.Buffer) error {
	written, err := archive.Keep(m.file, lines.Bytes())
	if err != nil {
		return err
	}
	var back bytes.Buffer
	err = archive.EachLine(io.TeeReader(written, &back), maxLine, func(text []byte) error {
		l, err := parse(text)
		if err == nil {
			m.has.read(l)
		}
		return err
	})
	if err == nil && !bytes.Equal(back.Bytes(), lines.Bytes()) {
		err = errors.New("what was written is not what is read")
	}
	lines.Reset()
	return err
}
