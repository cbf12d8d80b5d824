package deadletter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/perdure/perdure/internal/archive"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// MoveOut writes the entries that a filter selects to the end of a file, sees that
// they are there, and only then takes them out of quarantine: whenever it is stopped,
// by whatever, each entry is in one of the two, or in both. The same call again goes
// on. It returns how many entries were taken out. told, when not nil, is called
// between pages.
func (q *Quarantine) MoveOut(ctx context.Context, queue string, filter Filter, path string, by jobs.Decision, told func(moved int)) (moved int, err error) {
	if err := by.Check(); err != nil {
		return 0, err
	}
	by.Reason += " (to " + filepath.Base(path) + ")"
	if err := by.Check(); err != nil {
		return 0, err
	}
	file, err := archive.Open(path, `{"format":"`+format+`"`)
	if err != nil {
		return 0, fmt.Errorf("move quarantined jobs to a file: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	err = q.records(ctx, queue, filter, func(records []delivery.DeadRecord) error {
		if err := keep(file, records); err != nil {
			return err
		}
		for _, r := range records {
			err := q.store.MoveOut(ctx, r, by)
			switch {
			case err == nil:
				moved++
			case !left(err):
				return err
			}
		}
		if told != nil {
			told(moved)
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("move quarantined jobs to %s: %w", path, err)
	}
	return moved, err
}

// keep writes records to the end of a file and to the disk, and reads them back. What
// could not be read back is not written.
func keep(file *os.File, records []delivery.DeadRecord) error {
	var lines bytes.Buffer
	if err := writeLines(&lines, records); err != nil {
		return err
	}
	if err := compare(bytes.NewReader(lines.Bytes()), records); err != nil {
		return err
	}
	written, err := archive.Keep(file, lines.Bytes())
	if err != nil {
		return err
	}
	return compare(written, records)
}

// compare returns an error unless lines are those of records.
func compare(lines io.Reader, records []delivery.DeadRecord) error {
	n := 0
	err := archive.EachLine(lines, maxLine, func(text []byte) error {
		r, err := parse(text)
		if err == nil && (n >= len(records) || sum(r) != sum(records[n])) {
			err = errors.New("what was written is not what is read")
		}
		if err != nil && n < len(records) {
			err = fmt.Errorf("entry %s/%q: %w", records[n].Queue, records[n].Key, err)
		}
		n++
		return err
	})
	if err == nil && n != len(records) {
		err = fmt.Errorf("entries: %d were written and %d are read", len(records), n)
	}
	return err
}
