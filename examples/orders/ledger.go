package orders

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Entry is one line of a service's ledger: what it was asked and what it did.
type Entry struct {
	At      time.Time `json:"at"`
	Service string    `json:"service"`
	Path    string    `json:"path"`
	Key     string    `json:"key"` // the Idempotency-Key
	Order   string    `json:"order"`
	Caller  string    `json:"caller"` // the User-Agent; of a worker "orders/<pid>"
	Event   string    `json:"event"`  // "received", "effect", "replayed" or "fault:<mode>"
}

// ReadLedger reads a ledger, also one that is being written: half a line at its
// end is ignored.
func ReadLedger(path string) ([]Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	defer f.Close()
	entries, _, err := readEntries(f)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: %w", path, err)
	}
	return entries, nil
}

// Effects counts the effects for each idempotency key. More than one is what
// must not happen.
func Effects(entries []Entry) map[string]int {
	counts := map[string]int{}
	for _, e := range entries {
		if e.Event == eventEffect {
			counts[e.Key]++
		}
	}
	return counts
}

// The events of an entry.
const (
	eventReceived = "received"
	eventEffect   = "effect"
	eventReplayed = "replayed"
	eventFault    = "fault:" // and the mode
)

// readEntries returns the whole lines and how many bytes they take.
func readEntries(r io.Reader) (entries []Entry, size int64, err error) {
	reader := bufio.NewReader(r)
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return entries, size, nil
		}
		if err != nil {
			return nil, 0, err
		}
		var e Entry
		if err := json.Unmarshal(bytes.TrimSpace(line), &e); err != nil {
			return nil, 0, fmt.Errorf("line %d: %w", len(entries)+1, err)
		}
		entries, size = append(entries, e), size+int64(len(line))
	}
}

// ledger appends entries to a file. It is safe for concurrent use by the
// goroutines of one process.
type ledger struct {
	mu   sync.Mutex
	file *os.File
	size int64
}

// openLedger opens or creates a ledger, cuts off half a line that a killed
// process left at its end, and returns what is in it.
func openLedger(path string) (*ledger, []Entry, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open ledger: %w", err)
	}
	entries, size, err := readEntries(f)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("ledger %s: %w", path, err), f.Close())
	}
	return &ledger{file: f, size: size}, entries, nil
}

// append writes one line. It does not sync: a killed process loses nothing.
func (l *ledger) append(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode ledger entry: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.file.Write(append(line, '\n'))
	if err != nil {
		return errors.Join(fmt.Errorf("write ledger: %w", err), l.file.Truncate(l.size))
	}
	l.size += int64(n)
	return nil
}

// copyTo writes the whole lines so far.
func (l *ledger) copyTo(w io.Writer) error {
	l.mu.Lock()
	size := l.size
	l.mu.Unlock()
	_, err := io.Copy(w, io.NewSectionReader(l.file, 0, size))
	return err
}

func (l *ledger) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
