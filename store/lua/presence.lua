-- presence: show a worker to asynq's tools as one of asynq's servers.
-- KEYS[1] asynq:servers:{host:pid:id}   KEYS[2] asynq:workers:{host:pid:id}
-- ARGV[1] seconds it stands   ARGV[2] server info   ARGV[3], ARGV[4] … pairs of a running job's id and info
-- Returns 1.
redis.call('SETEX', KEYS[1], ARGV[1], ARGV[2])
redis.call('DEL', KEYS[2])
for i = 3, #ARGV - 1, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[2], ARGV[1])
return 1
