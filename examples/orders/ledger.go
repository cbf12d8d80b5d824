package orders

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// Entry is one line of a service's ledger.
type Entry struct {
	At      time.Time `json:"at"`
	Service string    `json:"service"`
	Path    string    `json:"path"`
	Key     string    `json:"key"` // the caller's idempotency key
	Order   string    `json:"order"`
	Event   string    `json:"event"` // "received", "effect", "replayed" or "fault:<mode>"
	Receipt string    `json:"receipt,omitempty"`
}

// ledger appends entries to a file. One write an entry, so a killed process
// leaves at most half a last line.
type ledger struct {
	mu   sync.Mutex
	file *os.File
}

func openLedger(path string) (*ledger, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	if err := endLine(file); err != nil {
		return nil, errors.Join(fmt.Errorf("mend ledger: %w", err), file.Close())
	}
	return &ledger{file: file}, nil
}

// endLine ends the half line that a killed process may have left, so that the
// next entry is a line of its own.
func endLine(file *os.File) error {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = file.Write([]byte{'\n'})
	return err
}

func (l *ledger) append(e Entry) error {
	e.At = time.Now().UTC()
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode ledger entry: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	return nil
}

// ReadLedger reads the entries of a ledger. Half a line, which a killed process
// leaves, is passed over; a file that is not there is empty.
func ReadLedger(path string) ([]Entry, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	defer file.Close()
	var entries []Entry
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e Entry
		if json.Unmarshal(lines.Bytes(), &e) == nil {
			entries = append(entries, e)
		}
	}
	return entries, lines.Err()
}

// Effects counts the effects of each idempotency key.
func Effects(entries []Entry) map[string]int {
	counts := map[string]int{}
	for _, e := range entries {
		if e.Event == "effect" {
			counts[e.Key]++
		}
	}
	return counts
}
