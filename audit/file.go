package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/perdure/perdure/internal/archive"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// format names what a line of an export is.
const format = "perdure-audit-1"

// InFile stands for a stream in a [Finding] of [VerifyFile] that is about the file itself.
const InFile = "(file)"

// maxLine is how long a line of an export may be, in bytes.
const maxLine = 1 << 20

// line is one of the three things that an export is made of. Of a stream they come in
// order, each seal after the decision that it seals.
type line struct {
	Format string            `json:"format"`
	Anchor *delivery.Anchor  `json:"anchor,omitempty"`
	Event  *delivery.Link    `json:"event,omitempty"`
	Seal   *delivery.Seal    `json:"seal,omitempty"`
	Binary map[string][]byte `json:"binary,omitempty"` // fields of the event that are no text
}

// fields are those of an event that people have written.
func fields(l *delivery.Link) map[string]*string {
	return map[string]*string{"what": &l.What, "key": &l.Key, "actor": &l.Actor, "reason": &l.Reason, "before": &l.Before, "after": &l.After}
}

func eventLine(l delivery.Link) line {
	out := line{Format: format, Event: &l}
	for name, text := range fields(&l) {
		if !utf8.ValidString(*text) {
			if out.Binary == nil {
				out.Binary = map[string][]byte{}
			}
			out.Binary[name], *text = []byte(*text), ""
		}
	}
	return out
}

// parse reads a line of an export.
func parse(text []byte) (line, error) {
	var l line
	if json.Unmarshal(text, &l) != nil {
		return l, errors.New("it is no JSON object of an export")
	}
	if l.Format != format {
		return l, fmt.Errorf("its format is %q, not %q", cut(l.Format, 40), format)
	}
	if l.Event != nil {
		for name, to := range fields(l.Event) {
			if data, ok := l.Binary[name]; ok {
				*to = string(data)
			}
		}
	}
	if l.Anchor == nil && l.Event == nil && l.Seal == nil {
		return l, errors.New("it is neither a decision nor a seal nor an anchor")
	}
	return l, nil
}

// Exported is what was written.
type Exported struct {
	Streams int   `json:"streams"`
	Events  int64 `json:"events"`
	Seals   int64 `json:"seals"`
}

// Export writes the decisions and seals of every stream, or of one, one JSON object a
// line. It changes nothing. told, when not nil, is called from time to time.
// ErrConflict: others have moved decisions out meanwhile, which are missing here.
func Export(ctx context.Context, c Chains, stream string, w io.Writer, told func(Exported)) (Exported, error) {
	var done Exported
	names, err := streams(ctx, c, stream)
	if err != nil {
		return done, err
	}
	out := bufio.NewWriterSize(w, 1<<16)
	for _, name := range names {
		before, wrong := done, error(nil)
		write := func(l line) {
			if wrong == nil {
				wrong = json.NewEncoder(out).Encode(l)
			}
		}
		w := newWalk(name, Keys{}, nil)
		head, err := tell(ctx, c, name, "", teller{
			anchor: func(a delivery.Anchor) { w.anchor(a); write(line{Format: format, Anchor: &a}) },
			event: func(l delivery.Link) {
				w.event(l)
				if write(eventLine(l)); done.Events%page == 0 && told != nil {
					told(done)
				}
				done.Events++
			},
			seal: func(s delivery.Seal) { w.sealed(s); write(line{Format: format, Seal: &s}); done.Seals++ },
		})
		if err = errors.Join(err, wrong); err == nil && w.end(head).Why != "" {
			err = unmoved(ctx, c, name, head.Anchor)
		}
		if err != nil {
			return done, fmt.Errorf("export decisions: %w", err)
		}
		if done != before {
			done.Streams++
		}
	}
	return done, out.Flush()
}

// unmoved returns an error when decisions were moved out of a stream since it was read,
// which is why what was read is not whole.
func unmoved(ctx context.Context, c Chains, stream string, anchor delivery.Anchor) error {
	now, err := c.StreamHead(ctx, stream)
	if err == nil && now.Anchor != anchor {
		err = fmt.Errorf("decisions of %s up to %d were moved out meanwhile; export again: %w", stream, now.Anchor.N, jobs.ErrConflict)
	}
	return err
}

// ExportSeals writes the seals of every stream, or of one, one JSON object a line: kept
// where nobody who can write to Redis can write, they prove what was sealed.
func ExportSeals(ctx context.Context, c Chains, stream string, w io.Writer) (Exported, error) {
	var done Exported
	out := bufio.NewWriterSize(w, 1<<16)
	err := ListSeals(ctx, c, stream, func(s delivery.Seal) error {
		done.Seals++
		return json.NewEncoder(out).Encode(line{Format: format, Seal: &s})
	})
	return done, errors.Join(err, out.Flush())
}

// ListSeals hands the seals of every stream, or of one, to show, oldest first in each.
func ListSeals(ctx context.Context, c Chains, stream string, show func(delivery.Seal) error) error {
	return ListSealsAfter(ctx, c, stream, "", "", show)
}

// ListSealsAfter is ListSeals from the seal of a decision of a stream on, without it.
func ListSealsAfter(ctx context.Context, c Chains, stream, begin, id string, show func(delivery.Seal) error) error {
	names, err := streams(ctx, c, stream)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name < begin {
			continue
		}
		after := ""
		if name == begin {
			after = id
		}
		for more := true; more; {
			seals, err := c.Seals(ctx, name, after, page)
			if err != nil {
				return err
			}
			for _, s := range seals {
				if err := show(s); err != nil {
					return err
				}
				after = s.ID
			}
			more = len(seals) == page
		}
	}
	return nil
}

// ReadSeals reads the seals that a file of [Export] or [ExportSeals] has.
func ReadSeals(r io.Reader) ([]delivery.Seal, error) {
	var seals []delivery.Seal
	n := 0
	err := archive.EachLine(r, maxLine, func(text []byte) error {
		n++
		l, err := parse(text)
		if err != nil {
			return &jobs.InvalidError{Field: fmt.Sprintf("line %d of the seals", n), Value: string(text), Bound: "a line of audit seals or audit export: " + err.Error()}
		}
		if l.Seal != nil {
			seals = append(seals, *l.Seal)
		}
		return nil
	})
	return seals, err
}

// VerifyFile does what [Verify] does with what [Export] or [MoveOut] has written,
// without Redis. A line that cannot be read is a finding of its own; what the file is
// not about at all is not missed.
func VerifyFile(r io.Reader, keys Keys, known []delivery.Seal) ([]Finding, error) {
	walks, err := walkFile(r, keys, known)
	findings := []Finding{}
	for _, w := range walks.all {
		findings = append(findings, w.end(delivery.Head{}))
	}
	var bad *badLine
	if errors.As(err, &bad) {
		return append(findings, Finding{Stream: InFile, Broken: fmt.Sprintf("line %d", bad.n), Why: bad.why.Error()}), nil
	}
	return findings, err
}

// walks are those of a file, one for each stream that is in it.
type walks struct {
	keys  Keys
	known []delivery.Seal
	all   []*walk
}

type badLine struct {
	n   int
	why error
}

func (b *badLine) Error() string { return fmt.Sprintf("line %d: %v", b.n, b.why) }

func walkFile(r io.Reader, keys Keys, known []delivery.Seal) (*walks, error) {
	w, n := &walks{keys: keys, known: known}, 0
	return w, archive.EachLine(r, maxLine, func(text []byte) error {
		n++
		l, err := parse(text)
		if err != nil {
			return &badLine{n, err}
		}
		w.read(l)
		return nil
	})
}

func (w *walks) read(l line) {
	switch {
	case l.Anchor != nil:
		w.of(l.Anchor.Stream).anchor(*l.Anchor)
	case l.Event != nil:
		w.of(l.Event.Stream).event(*l.Event)
	default:
		w.of(l.Seal.Stream).sealed(*l.Seal)
	}
}

// of is the walk of a stream.
func (w *walks) of(stream string) *walk {
	for _, one := range w.all {
		if one.f.Stream == stream {
			return one
		}
	}
	var known []delivery.Seal
	for _, s := range w.known {
		if s.Stream == stream {
			known = append(known, s)
		}
	}
	w.all = append(w.all, newWalk(stream, w.keys, known))
	return w.all[len(w.all)-1]
}

// Count returns what a file of [Export] or [ExportSeals] has, whether it holds or not.
func Count(r io.Reader) (Exported, error) {
	var has Exported
	n, streams := 0, map[string]bool{}
	return has, archive.EachLine(r, maxLine, func(text []byte) error {
		n++
		l, err := parse(text)
		switch {
		case err != nil:
			return &badLine{n, err}
		case l.Event != nil:
			has.Events++
			streams[l.Event.Stream] = true
		case l.Seal != nil:
			has.Seals++
			streams[l.Seal.Stream] = true
		}
		has.Streams = len(streams)
		return nil
	})
}
