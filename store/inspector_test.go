package store

import "github.com/hibiken/asynq"

func (f *fixture) inspector() *asynq.Inspector { return asynq.NewInspectorFromRedisClient(f.rdb) }
