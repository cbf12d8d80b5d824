// Package devredis runs the Redis of `perdure dev` and `perdure drill`.
//
// It is a redis-server found on PATH, run as a child with an append-only file in
// the data directory, else a miniredis inside this process, which forgets
// everything when the process ends. [Server.Description] says which one it is.
//
// One process at a time owns a data directory: it holds an exclusive lock on the
// file "lock", and "address" tells the command line where its Redis answers.
// redis-server inherits the lock, so that the lock is held for as long as anybody
// may write to the data, even where redis-server outlives its parent.
package devredis
