-- suspect: end an execution that took its isolated process with it. The job waits among the suspects again.
-- KEYS[1] asynq:{q}:t:<key>          KEYS[2] asynq:{q}:active    KEYS[3] asynq:{q}:lease
-- KEYS[4] perdure:{q}:own:<owner>    KEYS[5] asynq:{q}:retry     KEYS[6] perdure:{q}:parked   KEYS[7] perdure:{q}:suspects
-- ARGV[1] key   ARGV[2] token   ARGV[3] message   ARGV[4] delay in ms   ARGV[5] failure
-- ARGV[6] how many failures are kept
-- Returns 1 parked, one crash counted; 2 ended before by this token (sent twice); -1 no such job; -2 stale token.
local owns = ownership(KEYS[1], ARGV[2])
if owns ~= 1 then return owns end
local _, now_ms = clock()
release(KEYS[2], KEYS[3], KEYS[4], ARGV[1])
suspected(KEYS[1], ARGV[1], ARGV[3], KEYS[5], KEYS[6], KEYS[7], now_ms, now_ms + tonumber(ARGV[4]))
redis.call('HDEL', KEYS[1], 'p:tok', 'p:alone')
redis.call('HSET', KEYS[1], 'p:ltok', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'p:cra', 1)
redis.call('HINCRBY', KEYS[1], 'p:icr', 1)
keep_failure(KEYS[1], ARGV[5], ARGV[6])
return 1
