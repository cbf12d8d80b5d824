-- quarantine: isolate a job with its whole story. It stays until it is replayed or discarded; nothing trims it.
-- KEYS[1] asynq:{q}:t:<key>          KEYS[2] asynq:{q}:active            KEYS[3] asynq:{q}:lease
-- KEYS[4] perdure:{q}:own:<owner>    KEYS[5] asynq:{q}:archived          KEYS[6] perdure:{q}:dead
-- KEYS[7] perdure:{q}:events         KEYS[8] asynq:{q}:processed:<day>   KEYS[9] asynq:{q}:processed
-- KEYS[10] asynq:{q}:failed:<day>    KEYS[11] asynq:{q}:failed           KEYS[12] perdure:{q}:reports
-- KEYS[13] perdure:{q}:groups
-- ARGV[1] key   ARGV[2] token   ARGV[3] message   ARGV[4] when the day's counters expire, unix s   ARGV[5] failure
-- ARGV[6] how many failures are kept   ARGV[7] entry   ARGV[8] actor   ARGV[9] reason   ARGV[10] attempts used, 0 or 1
-- ARGV[11] the kind's version, pinned when none is yet; 0: not known   ARGV[12] signature   ARGV[13] what the group is about
-- ARGV[14] 1: its steps were undone before, all of them
-- A request to cancel or to pause it is settled with that: it has ended in another way, and a later replay is not to be
-- cancelled or paused.
-- Returns 1 isolated; 2 ended before by this token (sent twice); -1 no such job; -2 stale token.
local owns, parent = ownership(KEYS[1], ARGV[2])
if owns ~= 1 then return owns end
report(KEYS[12], parent)
local now, now_ms = clock()
release(KEYS[2], KEYS[3], KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[5], now, ARGV[1])
redis.call('ZADD', KEYS[6], now_ms, ARGV[1])
redis.call('HDEL', KEYS[1], 'p:tok', 'p:waits', 'p:can', 'p:alone', 'p:hold', 'p:pass')
if ARGV[14] == '1' then redis.call('HDEL', KEYS[1], 'p:undo') end
if ARGV[11] ~= '0' then redis.call('HSETNX', KEYS[1], 'p:ver', ARGV[11]) end
redis.call('HSET', KEYS[1], 'msg', ARGV[3], 'state', 'archived', 'p:ltok', ARGV[2], 'p:dead', ARGV[7])
redis.call('HINCRBY', KEYS[1], 'p:att', ARGV[10])
keep_failure(KEYS[1], ARGV[5], ARGV[6])
decision(KEYS[7], 'quarantine', ARGV[1], ARGV[8], ARGV[9], 'running', 'quarantined')
grouped(KEYS[1], ARGV[1], KEYS[13], ARGV[12], ARGV[13], ARGV[11], now_ms, KEYS[7])
count(KEYS[8], KEYS[9], ARGV[4])
count(KEYS[10], KEYS[11], ARGV[4])
return 1
