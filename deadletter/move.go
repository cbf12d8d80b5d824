package deadletter

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// MoveOut writes the entries that a filter selects to the end of a file, sees that
// they are there, and only then takes them out of quarantine: whenever it is stopped,
// by whatever, each entry is in one of the two, or in both. The same call again goes
// on. It returns how many entries were taken out. told, when not nil, is called
// between pages.
func (q *Quarantine) MoveOut(ctx context.Context, queue string, filter Filter, path string, by jobs.Decision, told func(moved int)) (moved int, err error) {
	by.Reason += " (to " + filepath.Base(path) + ")"
	if err := by.Check(); err != nil {
		return 0, err
	}
	file, err := openArchive(path)
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

// openArchive opens a file to write on at its end. A last line without an end was cut
// off by a crash, before its entry was taken out: it is taken away.
func openArchive(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		err = fmt.Errorf("another process writes it: %w", err)
	}
	if err == nil {
		err = ours(file)
	}
	end := int64(0)
	if err == nil {
		end, err = wholeLines(file)
	}
	if err == nil {
		err = file.Truncate(end)
	}
	if err == nil {
		_, err = file.Seek(end, io.SeekStart)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// ours returns an error unless a file is empty or begins as an export does.
func ours(file *os.File) error {
	want := []byte(`{"format":"` + format + `"`)
	begin := make([]byte, len(want))
	n, err := file.ReadAt(begin, 0)
	if err != nil && err != io.EOF {
		return err
	}
	if !bytes.HasPrefix(want, begin[:n]) {
		return fmt.Errorf("it is there and is no export: %w", jobs.ErrConflict)
	}
	return nil
}

// wholeLines returns where the last whole line of a file ends.
func wholeLines(file *os.File) (end int64, err error) {
	reader, read := bufio.NewReaderSize(file, 1<<16), int64(0)
	for {
		part, err := reader.ReadSlice('\n')
		read += int64(len(part))
		switch {
		case err == nil:
			end = read
		case err == io.EOF:
			return end, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return 0, err
		}
	}
}

// keep writes records to the end of a file and to the disk, and reads them back.
func keep(file *os.File, records []delivery.DeadRecord) error {
	var lines bytes.Buffer
	if err := writeLines(&lines, records); err != nil {
		return err
	}
	begin, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := file.Write(lines.Bytes()); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	n := 0
	err = eachLine(io.NewSectionReader(file, begin, int64(lines.Len())), func(text []byte) error {
		r, err := parse(text)
		if err == nil && (n >= len(records) || sum(r) != sum(records[n])) {
			err = errors.New("what was written is not what is read")
		}
		n++
		return err
	})
	if err == nil && n != len(records) {
		err = fmt.Errorf("%d entries were written and %d are read", len(records), n)
	}
	return err
}

// syncDir makes a new file's name last.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
