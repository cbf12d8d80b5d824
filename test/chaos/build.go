package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// skewSource gives a process a clock that jumps: CHAOS_CLOCK seconds ahead and,
// five seconds later, as many behind, and so on. Go takes the time from the kernel
// without libc, so that the place to shift it is package time itself.
const skewSource = `package time

import "syscall"

var chaosClock = func() int64 {
	text, _ := syscall.Getenv("CHAOS_CLOCK")
	var n int64
	for _, c := range []byte(text) {
		n = n*10 + int64(c-'0')
	}
	return n
}()

func chaosSkew(mono int64) int64 {
	if mono/5e9%2 == 0 {
		return chaosClock
	}
	return -chaosClock
}
`

const (
	nowLine     = "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {"
	skewedNow   = "\tsec, nsec, mono := runtimeNow()\n\tsec += chaosSkew(mono)\n\tif mono == 0 {"
	staleLine   = "  return -2\nend"
	uncheckedIn = "  return 1\nend"
)

// build compiles the command with clocks that can jump and, for the mutant
// MutantToken, with scripts that let every token pass. Sources are replaced for
// this build alone.
func build(ctx context.Context, dir, mutant string) (string, error) {
	root, goroot, err := places(ctx)
	if err != nil {
		return "", err
	}
	o := overlay{dir: dir, replace: map[string]string{}}
	clock := filepath.Join(goroot, "src", "time")
	o.write(filepath.Join(clock, "chaos.go"), skewSource)
	o.edit(filepath.Join(clock, "time.go"), nowLine, skewedNow)
	if mutant == MutantToken {
		o.edit(filepath.Join(root, "store", "lua", "prelude.lua"), staleLine, uncheckedIn)
	}
	list, err := o.save()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "perdure")
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", list, "-o", binary, "./cmd/perdure")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the command: %w\n%s", err, out)
	}
	return binary, nil
}

// places returns the root of this module and of Go.
func places(ctx context.Context) (root, goroot string, err error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD", "GOROOT").Output()
	if err != nil {
		return "", "", fmt.Errorf("ask go where things are: %w", err)
	}
	lines := strings.Split(string(out), "\n")
	if len(lines) < 2 || filepath.Base(lines[0]) != "go.mod" {
		return "", "", errors.New("not inside the module: run this from the source tree")
	}
	return filepath.Dir(lines[0]), lines[1], nil
}

// overlay collects sources that go build takes instead of others.
type overlay struct {
	dir     string
	replace map[string]string
	errs    []error
}

func (o *overlay) write(path, text string) {
	to := filepath.Join(o.dir, fmt.Sprintf("overlay-%d-%s", len(o.replace), filepath.Base(path)))
	o.errs = append(o.errs, os.WriteFile(to, []byte(text), 0o600))
	o.replace[path] = to
}

func (o *overlay) edit(path, before, after string) {
	text, err := os.ReadFile(path)
	if err == nil && bytes.Count(text, []byte(before)) != 1 {
		err = fmt.Errorf("%s has changed: %q is not there once", path, before)
	}
	if err != nil {
		o.errs = append(o.errs, err)
		return
	}
	o.write(path, strings.Replace(string(text), before, after, 1))
}

func (o *overlay) save() (string, error) {
	list, err := json.Marshal(map[string]any{"Replace": o.replace})
	path := filepath.Join(o.dir, "overlay.json")
	return path, errors.Join(append(o.errs, err, os.WriteFile(path, list, 0o600))...)
}
