// Package store owns every Redis key and every script of perdure, asynq's wire
// format, and the client's implementation. Nothing else of perdure talks to
// Redis.
//
// A job is asynq's own task hash, asynq:{queue}:t:<key>, with perdure's fields
// beside asynq's (record.go lists them). What belongs to a queue lives in the
// queue's hash slot; each script works in one slot. The scripts are under lua/;
// each takes time from Redis, checks everything before its first write, compares
// the whole token, and says the same again when it is sent twice.
package store
