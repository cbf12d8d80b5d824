package chaos

import "syscall"

// childAttr gives a child a process group of its own and has the kernel kill it
// with this process, however this one ends.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
