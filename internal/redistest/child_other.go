//go:build unix && !linux

package redistest

import "syscall"

// childAttr has no way here to tie the server's life to the test binary's.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
