-- fire: enqueue the job of a tick, unless this tick or a later one of its series has fired here before: also when the
-- job has ended and is forgotten since.
-- KEYS[1] asynq:{q}:t:<key>   KEYS[2] asynq:{q}:pending   KEYS[3] perdure:{q}:fired
-- ARGV[1] key   ARGV[2] series: a schedule's ticks, or its triggers   ARGV[3] instant, ms   ARGV[4] message
-- ARGV[5] how many series are remembered
-- Returns 1 enqueued; 2 it has fired before; 3 the key was taken by a job already; 4 a later one has fired.
local reached, at = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[2]) or 0), tonumber(ARGV[3])
if reached == at then return 2 end
if reached > at then return 4 end
local there = redis.call('EXISTS', KEYS[1])
local _, _, now_ns = clock()
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[5]))
if there == 1 then return 3 end
redis.call('HSET', KEYS[1], 'msg', ARGV[4], 'state', 'pending', 'pending_since', now_ns)
redis.call('LPUSH', KEYS[2], ARGV[1])
return 1
