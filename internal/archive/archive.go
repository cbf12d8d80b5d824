// Package archive writes files of lines that are to outlive what they were copied from:
// a line counts as written when it is on the disk and was read back.
package archive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/perdure/perdure/jobs"
)

// Open opens a file to write on at its end, for one process at a time. A last line
// without an end was cut off by a crash, before anybody relied on it: it is taken away.
// ErrConflict: the file is there, and does not begin as its lines do.
func Open(path, begins string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		err = fmt.Errorf("another process writes it: %w", err)
	}
	if err == nil {
		err = ours(file, []byte(begins))
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
func ours(file *os.File, want []byte) error {
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

// Keep writes data to the end of a file and to the disk, and returns what reads it back
// from there.
func Keep(file *os.File, data []byte) (io.Reader, error) {
	begin, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(data); err != nil {
		return nil, err
	}
	return io.NewSectionReader(file, begin, int64(len(data))), file.Sync()
}

// EachLine hands the lines of r that are not empty to do, without their ends. A line is
// at most so many bytes long.
func EachLine(r io.Reader, most int, do func(text []byte) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 1<<16), most)
	for lines.Scan() {
		if text := bytes.TrimSpace(lines.Bytes()); len(text) > 0 {
			if err := do(text); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

// syncDir makes a new file's name last.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
