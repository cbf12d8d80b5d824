//go:build !unix

package devredis

import (
	"errors"
	"os"
	"syscall"
)

const (
	exclusive = 1
	shared    = 2
)

// tryLock is not implemented here: no file lock that a child can inherit.
func tryLock(*os.File, int) error {
	return errors.New("perdure dev needs a Unix system: run it there, or run the worker, scheduler and ops processes with a REDIS_URL")
}

func childAttr() *syscall.SysProcAttr { return nil }
