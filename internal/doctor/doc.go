// Package doctor looks whether the Redis that jobs are kept in keeps what the
// chosen durability mode promises. `perdure doctor` shows every check; workers and
// schedulers run them at start, refuse to start where one says so, and repeat
// those that cost nothing while they run. It only reads, but for scratch keys of
// its own.
package doctor
