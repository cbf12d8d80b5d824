-- cancel: end a job that is not running, or ask a running one to stop at its next step. One with steps that are to be
-- undone is sent back to its queue, for a worker to undo them.
-- KEYS[1] asynq:{q}:t:<key>     KEYS[2] asynq:{q}:pending    KEYS[3] asynq:{q}:scheduled   KEYS[4] asynq:{q}:retry
-- KEYS[5] asynq:{q}:completed   KEYS[6] perdure:{q}:parked   KEYS[7] perdure:{q}:events
-- KEYS[8] the task's unique lock, or KEYS[1] when it has none   KEYS[9] perdure:{q}:dead
-- KEYS[10] perdure:{q}:decided:<nonce> of this decision          KEYS[11] perdure:{q}:reports
-- KEYS[12] perdure:{q}:orphans   KEYS[13] perdure:{q}:groups     KEYS[14] perdure:{q}:queued
-- ARGV[1] key   ARGV[2] the message as it was read   ARGV[3] the message to store   ARGV[4] retention in seconds
-- ARGV[5] actor   ARGV[6] reason
-- Returns 1 cancelled; 2 asked (it is running, or to be undone first); 3 was cancelled before, or was asked; 0 the message has
-- changed: read again; -1 no such job; -3 it has ended in another way, or is
-- being undone to do so. Sent twice, what it answered before.
-- p:exp is there once a job has ended, also while asynq's "run now" has put it back among the pending. A job that was
-- asked to stop and waits by now is cancelled at once; that decision is on record already.
local before = taken(KEYS[10])
if before then return before end
local had = redis.call('HMGET', KEYS[1], 'msg', 'state', 'p:end', 'p:can', 'p:exp', 'p:parent', 'p:undo', 'p:wait')
if not had[1] then return -1 end
if had[3] == 'cancelled' then return 3 end
if had[2] == 'completed' or had[2] == 'archived' or had[5] then return -3 end
if had[7] then return string.sub(had[7], 1, 7) == 'cancel ' and 3 or -3 end
if had[2] == 'active' and had[4] then return 3 end
if had[1] ~= ARGV[2] then return 0 end
local undo_first = had[2] ~= 'active' and undoable(KEYS[1])
if undo_first and had[4] and (had[2] == 'pending' or had[2] == 'retry' and turn_of(had[8])) then return 3 end
if not had[4] then
  local becomes = had[2] == 'active' and 'running, to be cancelled' or undo_first and 'pending, to be undone' or 'cancelled'
  decision(KEYS[7], 'cancel', ARGV[1], ARGV[5], ARGV[6], called(had[2], had[8]), becomes)
end
if had[2] == 'active' then
  redis.call('HSET', KEYS[1], 'p:can', ARGV[5] .. ': ' .. ARGV[6])
  return took(KEYS[10], 2)
end
if undo_first then
  if had[2] ~= 'pending' then
    local _, _, now_ns = clock()
    redis.call('ZREM', KEYS[3], ARGV[1])
    redis.call('ZREM', KEYS[4], ARGV[1])
    redis.call('ZREM', KEYS[6], ARGV[1])
    redis.call('ZREM', KEYS[14], ARGV[1])
    redis.call('LPUSH', KEYS[2], ARGV[1])
    redis.call('HSET', KEYS[1], 'state', 'pending', 'pending_since', now_ns)
  end
  redis.call('HDEL', KEYS[1], 'p:due', 'p:wait', 'p:waits', 'p:hold', 'p:back')
  redis.call('HSET', KEYS[1], 'p:can', ARGV[5] .. ': ' .. ARGV[6])
  return took(KEYS[10], 2)
end
local now = clock()
local expires = now + tonumber(ARGV[4])
report(KEYS[11], had[6])
orphaned(KEYS[1], KEYS[12], ARGV[1])
redis.call('LREM', KEYS[2], 1, ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('ZREM', KEYS[14], ARGV[1])
ungrouped(KEYS[1], ARGV[1], KEYS[9], KEYS[13])
if KEYS[8] ~= KEYS[1] and redis.call('GET', KEYS[8]) == ARGV[1] then redis.call('DEL', KEYS[8]) end
redis.call('ZADD', KEYS[5], expires, ARGV[1])
redis.call('HDEL', KEYS[1], 'p:due', 'p:wait', 'p:waits', 'pending_since', 'p:dead', 'p:can', 'p:hold', 'p:back')
redis.call('HSET', KEYS[1], 'msg', ARGV[3], 'state', 'completed', 'p:exp', expires, 'p:end', 'cancelled')
return took(KEYS[10], 1)
