package deadletter

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/perdure/perdure/internal/archive"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// format names what a line of an export is.
const format = "perdure-dead-1"

// maxLine is how long a line of an export may be, in bytes.
const maxLine = 256 << 20

// line is an entry in a file: what people look for, and the whole record.
type line struct {
	Format string `json:"format"`
	delivery.Dead
	KeyBytes    []byte            `json:"key_bytes,omitempty"` // of a key that is no text
	Incarnation string            `json:"incarnation"`
	Record      map[string]string `json:"record"`           // the fields that are text
	Binary      map[string][]byte `json:"binary,omitempty"` // the others
	Sum         string            `json:"sum"`              // SHA-256 of queue, key, time and fields
}

func lineOf(r delivery.DeadRecord) line {
	l := line{Format: format, Dead: r.Dead, Incarnation: r.Job.Incarnation, Record: map[string]string{}, Binary: map[string][]byte{}, Sum: sum(r)}
	if !utf8.ValidString(r.Key) {
		l.KeyBytes = []byte(r.Key)
	}
	for field, value := range r.Fields {
		if utf8.ValidString(value) {
			l.Record[field] = value
		} else {
			l.Binary[field] = []byte(value)
		}
	}
	return l
}

// record returns what the line was made of, when it is whole.
func (l line) record() (delivery.DeadRecord, error) {
	r := delivery.DeadRecord{Dead: l.Dead, Fields: maps.Clone(l.Record)}
	if r.Fields == nil {
		r.Fields = map[string]string{}
	}
	if l.KeyBytes != nil {
		r.Key = string(l.KeyBytes)
	}
	for field, value := range l.Binary {
		r.Fields[field] = string(value)
	}
	_, message := r.Fields["msg"] // of one that is damaged it may be empty
	switch {
	case l.Format != format:
		return r, fmt.Errorf("its format is %q, not %q", l.Format, format)
	case sum(r) != l.Sum:
		return r, errors.New("it is not as it was written: its sum is another")
	case r.Fields["state"] != "archived" || !message:
		return r, errors.New("it is not the record of a quarantined job")
	}
	return r, errors.Join(jobs.CheckQueue(l.Queue), jobs.CheckTaskID(r.Key))
}

// sum is the SHA-256 of what makes an entry, in hexadecimal digits.
func sum(r delivery.DeadRecord) string {
	h := sha256.New()
	write := func(text string) { fmt.Fprintf(h, "%d:%s", len(text), text) }
	write(r.Queue)
	write(r.Key)
	write(fmt.Sprint(r.At.UnixMilli()))
	for _, field := range slices.Sorted(maps.Keys(r.Fields)) {
		write(field)
		write(r.Fields[field])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Export writes the entries that a filter selects to w, one JSON object a line, and
// returns how many. told, when not nil, is called between pages.
func (q *Quarantine) Export(ctx context.Context, queue string, filter Filter, w io.Writer, told func(written int)) (written int, err error) {
	out := bufio.NewWriterSize(w, 1<<16)
	err = q.records(ctx, queue, filter, func(records []delivery.DeadRecord) error {
		if err := writeLines(out, records); err != nil {
			return err
		}
		if written += len(records); told != nil {
			told(written)
		}
		return nil
	})
	return written, errors.Join(err, out.Flush())
}

// records hands the whole records that a filter selects to do, page by page.
func (q *Quarantine) records(ctx context.Context, queue string, filter Filter, do func([]delivery.DeadRecord) error) error {
	return q.eachBefore(ctx, queue, filter, func(entries []delivery.Dead) error {
		byQueue := map[string][]string{}
		for _, d := range entries {
			byQueue[d.Queue] = append(byQueue[d.Queue], d.Key)
		}
		for _, queue := range slices.Sorted(maps.Keys(byQueue)) {
			records, err := q.store.DeadRecords(ctx, queue, byQueue[queue])
			if err != nil {
				return err
			}
			records = slices.DeleteFunc(records, func(r delivery.DeadRecord) bool { return r.Job.State != jobs.StateQuarantined || r.At.IsZero() })
			if err := do(records); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeLines(w io.Writer, records []delivery.DeadRecord) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for _, r := range records {
		if err := encoder.Encode(lineOf(r)); err != nil {
			return fmt.Errorf("write %s/%s: %w", r.Queue, r.Key, err)
		}
	}
	return nil
}

// Imported is what became of the lines of an export.
type Imported struct {
	Restored int      `json:"restored"`
	There    int      `json:"there"`    // already, as they are
	Conflict int      `json:"conflict"` // the key is another job's by now, or this one's, replayed
	Broken   int      `json:"broken"`   // lines that cannot be read, or are not as they were written
	Problems []string `json:"problems"` // the first 20 of the last two
}

func (i *Imported) problem(count *int, n int, err error) {
	if *count++; len(i.Problems) < 20 {
		i.Problems = append(i.Problems, fmt.Sprintf("line %d: %v", n, err))
	}
}

// Import puts exported entries back into quarantine, as they were. Lines that cannot
// be taken are counted and passed over; the same import again changes nothing. told,
// when not nil, is called from time to time.
func (q *Quarantine) Import(ctx context.Context, r io.Reader, by jobs.Decision, told func(Imported)) (Imported, error) {
	done := Imported{Problems: []string{}}
	if err := by.Check(); err != nil {
		return done, err
	}
	n := 0
	return done, archive.EachLine(r, maxLine, func(text []byte) error {
		n++
		if told != nil && n%page == 0 {
			told(done)
		}
		record, err := parse(text)
		if err != nil {
			done.problem(&done.Broken, n, err)
			return nil
		}
		restored, err := q.store.Restore(ctx, record, by)
		switch {
		case errors.Is(err, jobs.ErrConflict):
			done.problem(&done.Conflict, n, err)
		case errors.Is(err, jobs.ErrInvalid):
			done.problem(&done.Broken, n, err)
		case err != nil:
			return err
		case restored:
			done.Restored++
		default:
			done.There++
		}
		return nil
	})
}

func parse(text []byte) (delivery.DeadRecord, error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return delivery.DeadRecord{}, errors.New("it is no JSON object of an export")
	}
	return l.record()
}
