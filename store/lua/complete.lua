-- complete: end an execution with its result.
-- KEYS[1] asynq:{q}:t:<key>           KEYS[2] asynq:{q}:active              KEYS[3] asynq:{q}:lease
-- KEYS[4] perdure:{q}:own:<owner>     KEYS[5] asynq:{q}:completed           KEYS[6] asynq:{q}:processed:<day>
-- KEYS[7] asynq:{q}:processed         KEYS[8] the task's unique lock, or KEYS[1] when it has none
-- KEYS[9] perdure:{q}:forgotten       KEYS[10] perdure:{q}:reports
-- ARGV[1] key   ARGV[2] token   ARGV[3] message   ARGV[4] retention in seconds, 0: forget the job at once
-- ARGV[5] when the day's counter expires, unix seconds   ARGV[6] result   ARGV[7] the kind's version
-- Returns 1 ended; 2 ended before by this token (sent twice); -1 no such job, also when it was forgotten at once and this
-- is sent twice; -2 stale token.
local owns, parent = ownership(KEYS[1], ARGV[2])
if owns ~= 1 then return owns end
report(KEYS[10], parent)
local now = clock()
release(KEYS[2], KEYS[3], KEYS[4], ARGV[1])
if KEYS[8] ~= KEYS[1] and redis.call('GET', KEYS[8]) == ARGV[1] then redis.call('DEL', KEYS[8]) end
if tonumber(ARGV[4]) == 0 then
  redis.call('DEL', KEYS[1])
  redis.call('INCR', KEYS[9])
else
  local expires = now + tonumber(ARGV[4])
  redis.call('ZADD', KEYS[5], expires, ARGV[1])
  redis.call('HDEL', KEYS[1], 'p:tok', 'p:waits', 'p:can', 'p:alone', 'p:hold', 'h:', 'p:pass')
  redis.call('HSET', KEYS[1], 'msg', ARGV[3], 'state', 'completed', 'result', ARGV[6], 'p:ltok', ARGV[2], 'p:exp', expires,
    'p:ver', ARGV[7])
end
count(KEYS[6], KEYS[7], ARGV[5])
return 1
