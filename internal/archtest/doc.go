// Package archtest holds the source tree to the rules that a compiler does not
// know: which package may import which, where scripts may be run, what is
// documented, how long a file gets. It has tests only; each rule is shown to fail
// on a small source that breaks it.
package archtest
