package cli

import (
	"fmt"
	"os"
	"strings"
)

// progress shows on a terminal how far long work has come; elsewhere nothing.
type progress struct {
	a     *App
	what  string
	shown bool
}

func (a *App) progress(what string) *progress { return &progress{a: a, what: what} }

// at shows how much is done of a total; 0: of nobody knows how much.
func (p *progress) at(done, total int64) {
	if !isTerminal(p.a.Err) {
		return
	}
	p.shown = true
	if total <= 0 {
		fmt.Fprintf(p.a.Err, "\r\x1b[K%s %d", p.what, done)
		return
	}
	const width = 30
	filled := int(width * min(done, total) / total)
	fmt.Fprintf(p.a.Err, "\r\x1b[K[%s%s] %s %d of %d", strings.Repeat("#", filled), strings.Repeat(".", width-filled), p.what, done, total)
}

// done clears the line.
func (p *progress) done() {
	if p.shown {
		fmt.Fprint(p.a.Err, "\r\x1b[K")
	}
}

func isTerminal(w any) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
