-- takeback: end an execution of a job that is to end for good once its steps are undone. The job goes back to the head of
-- its queue, and its next executions undo them. No attempt is used.
-- KEYS[1] asynq:{q}:t:<key>          KEYS[2] asynq:{q}:active     KEYS[3] asynq:{q}:lease
-- KEYS[4] perdure:{q}:own:<owner>    KEYS[5] asynq:{q}:pending    KEYS[6] perdure:{q}:events
-- ARGV[1] key   ARGV[2] token   ARGV[3] message   ARGV[4] what is to become of it: '<outcome> <JSON>'   ARGV[5] failure
-- ARGV[6] how many failures are kept   ARGV[7] the kind's version, pinned when none is yet; 0: not known
-- ARGV[8] actor   ARGV[9] reason
-- Returns 1 back in the queue; 2 ended before by this token (sent twice); -1 no such job; -2 stale token.
local owns = ownership(KEYS[1], ARGV[2])
if owns ~= 1 then return owns end
local _, _, now_ns = clock()
release(KEYS[2], KEYS[3], KEYS[4], ARGV[1])
redis.call('RPUSH', KEYS[5], ARGV[1])
redis.call('HDEL', KEYS[1], 'p:tok', 'p:waits', 'p:alone', 'p:hold', 'p:pass')
if ARGV[7] ~= '0' then redis.call('HSETNX', KEYS[1], 'p:ver', ARGV[7]) end
redis.call('HSET', KEYS[1], 'msg', ARGV[3], 'state', 'pending', 'pending_since', now_ns, 'p:ltok', ARGV[2], 'p:undo', ARGV[4])
keep_failure(KEYS[1], ARGV[5], ARGV[6])
decision(KEYS[6], 'undo', ARGV[1], ARGV[8], ARGV[9], 'running', 'pending, to be undone')
return 1
