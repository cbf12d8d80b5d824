-- cancelled: end a running job as cancelled. The decision that asked for it was recorded when it was made; one
-- that the handler took itself is recorded here.
-- KEYS[1] asynq:{q}:t:<key>          KEYS[2] asynq:{q}:active       KEYS[3] asynq:{q}:lease
-- KEYS[4] perdure:{q}:own:<owner>    KEYS[5] asynq:{q}:completed    KEYS[6] perdure:{q}:events
-- KEYS[7] the task's unique lock, or KEYS[1] when it has none
-- KEYS[8] perdure:{q}:reports        KEYS[9] perdure:{q}:orphans
-- ARGV[1] key   ARGV[2] token   ARGV[3] message   ARGV[4] retention in seconds   ARGV[5] actor   ARGV[6] reason
-- Returns 1 ended; 2 ended before by this token (sent twice); -1 no such job; -2 stale token.
local owns, parent = ownership(KEYS[1], ARGV[2])
if owns ~= 1 then return owns end
report(KEYS[8], parent)
orphaned(KEYS[1], KEYS[9], ARGV[1])
local now = clock()
local expires = now + tonumber(ARGV[4])
release(KEYS[2], KEYS[3], KEYS[4], ARGV[1])
if KEYS[7] ~= KEYS[1] and redis.call('GET', KEYS[7]) == ARGV[1] then redis.call('DEL', KEYS[7]) end
redis.call('ZADD', KEYS[5], expires, ARGV[1])
if redis.call('HEXISTS', KEYS[1], 'p:can') == 0 then decision(KEYS[6], 'cancel', ARGV[1], ARGV[5], ARGV[6], 'running', 'cancelled') end
redis.call('HDEL', KEYS[1], 'p:tok', 'p:waits', 'p:can', 'p:alone', 'p:hold', 'p:undo', 'p:pass')
redis.call('HSET', KEYS[1], 'msg', ARGV[3], 'state', 'completed', 'p:ltok', ARGV[2], 'p:exp', expires, 'p:end', 'cancelled')
return 1
