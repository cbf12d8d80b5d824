-- retry: end an execution that failed; another follows when it is due. One attempt is used.
-- KEYS[1] asynq:{q}:t:<key>          KEYS[2] asynq:{q}:active            KEYS[3] asynq:{q}:lease
-- KEYS[4] perdure:{q}:own:<owner>    KEYS[5] asynq:{q}:retry             KEYS[6] asynq:{q}:processed:<day>
-- KEYS[7] asynq:{q}:processed        KEYS[8] asynq:{q}:failed:<day>      KEYS[9] asynq:{q}:failed
-- ARGV[1] key   ARGV[2] token   ARGV[3] message   ARGV[4] delay in ms   ARGV[5] when the day's counters expire, unix s
-- ARGV[6] failure   ARGV[7] how many failures are kept   ARGV[8] the kind's version, pinned when none is yet; 0: not known
-- Returns 1 ended; 2 ended before by this token (sent twice); -1 no such job; -2 stale token.
-- asynq's tools read whole seconds, so the set's score is the second of the due time and p:due has it in ms.
local owns = ownership(KEYS[1], ARGV[2])
if owns ~= 1 then return owns end
local _, now_ms = clock()
local due = now_ms + tonumber(ARGV[4])
release(KEYS[2], KEYS[3], KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[5], math.floor(due / 1000), ARGV[1])
redis.call('HDEL', KEYS[1], 'p:tok', 'p:waits', 'p:alone', 'p:pass')
if ARGV[8] ~= '0' then redis.call('HSETNX', KEYS[1], 'p:ver', ARGV[8]) end
redis.call('HSET', KEYS[1], 'msg', ARGV[3], 'state', 'retry', 'p:ltok', ARGV[2], 'p:due', due)
redis.call('HINCRBY', KEYS[1], 'p:att', 1)
keep_failure(KEYS[1], ARGV[6], ARGV[7])
count(KEYS[6], KEYS[7], ARGV[5])
count(KEYS[8], KEYS[9], ARGV[5])
return 1
