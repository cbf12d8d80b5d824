package devredis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// lockPatience covers the moment in which a killed perdure dev has ended and its
// redis-server has not yet, and another process that looks at the lock.
const lockPatience = time.Second

// errLocked is returned when another process holds the lock.
var errLocked = errors.New("locked by another process")

func lockPath(dir string) string    { return filepath.Join(dir, "lock") }
func addressPath(dir string) string { return filepath.Join(dir, "address") }

// acquire takes the data directory for this process. Closing the file gives it
// back.
func acquire(ctx context.Context, dir string) (*os.File, error) {
	file, err := os.OpenFile(lockPath(dir), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data directory: %w", err)
	}
	if err := lockWithin(ctx, file, lockPatience); err != nil {
		defer file.Close()
		if errors.Is(err, errLocked) {
			return nil, inUse(dir)
		}
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	if err := writePID(file); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", file.Name(), err), file.Close())
	}
	return file, nil
}

func lockWithin(ctx context.Context, file *os.File, patience time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errLocked)
	defer cancel()
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		err := tryLock(file, exclusive)
		if !errors.Is(err, errLocked) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-retry.C:
		}
	}
}

func inUse(dir string) error {
	holder := "another perdure dev"
	if text, err := os.ReadFile(lockPath(dir)); err == nil && len(text) > 0 {
		holder += ", pid " + strings.TrimSpace(string(text)) + ","
	}
	return fmt.Errorf("%s uses %s: stop it, or give this one another data directory", holder, dir)
}

func writePID(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Address returns the URL of the Redis that a running process has in dir. An
// address left behind by one that was killed does not count.
func Address(dir string) (url string, ok bool) {
	if !inHand(dir) {
		return "", false
	}
	text, err := os.ReadFile(addressPath(dir))
	if err != nil {
		return "", false
	}
	url = strings.TrimSpace(string(text))
	return url, url != ""
}

// inHand reports whether a process holds the lock.
func inHand(dir string) bool {
	file, err := os.Open(lockPath(dir))
	if err != nil {
		return false
	}
	defer file.Close()
	// Shared, so that two that look at the same time do not take each other for the
	// owner.
	return errors.Is(tryLock(file, shared), errLocked)
}

// writeAddress writes a file beside it first: a reader sees all of it or nothing.
func writeAddress(dir, url string) error {
	fresh := addressPath(dir) + ".new"
	if err := os.WriteFile(fresh, []byte(url+"\n"), 0o600); err != nil {
		return fmt.Errorf("record the address of redis: %w", err)
	}
	if err := os.Rename(fresh, addressPath(dir)); err != nil {
		return fmt.Errorf("record the address of redis: %w", err)
	}
	return nil
}

func removeAddress(dir string) error {
	if err := os.Remove(addressPath(dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the address of redis: %w", err)
	}
	return nil
}
