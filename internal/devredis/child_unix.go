//go:build unix && !linux

package devredis

import "syscall"

// childAttr keeps an interrupt from the terminal away from redis-server, which
// must be there until the last job is handed back.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
