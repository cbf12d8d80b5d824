package redistest

import "syscall"

// childAttr makes the kernel kill the server with the test binary, however the
// binary ends: a panic, a timeout, a SIGKILL.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
