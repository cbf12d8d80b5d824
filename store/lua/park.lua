-- park: end an execution that waits. When something that it waits for is there already the job goes back to its queue at
-- once, so that it does not matter which of the two came first. No attempt is used.
-- KEYS[1] asynq:{q}:t:<key>          KEYS[2] asynq:{q}:active    KEYS[3] asynq:{q}:lease
-- KEYS[4] perdure:{q}:own:<owner>    KEYS[5] asynq:{q}:retry     KEYS[6] perdure:{q}:parked   KEYS[7] asynq:{q}:pending
-- ARGV[1] key   ARGV[2] token   ARGV[3] message   ARGV[4] fallback in ms, when nothing has a time
-- ARGV[5] the kind's version, pinned when none is yet; 0: not known
-- ARGV[6] type of what it waits for   ARGV[7] name of it, and after it the names of its waits
-- Returns 1 parked; 3 back in the queue; 2 ended before by this token (sent twice); -1 no such job; -2 stale token.
local owns = ownership(KEYS[1], ARGV[2])
if owns ~= 1 then return owns end
local _, now_ms, now_ns = clock()
local due, over = now_ms + tonumber(ARGV[4]), false
for i = 8, #ARGV do
  local wait = redis.call('HMGET', KEYS[1], 'w:' .. ARGV[i], 'g:' .. ARGV[i], 'b:' .. ARGV[i])
  local till = wait[1] and tonumber(string.match(wait[1], '^%d+')) or 0
  if wait[2] or not wait[1] or till > 0 and till <= now_ms then over = true end
  if wait[3] and not string.find(wait[3], '0', 1, true) then over = true end -- its children have all ended
  if till > 0 and till < due then due = till end
end
release(KEYS[2], KEYS[3], KEYS[4], ARGV[1])
redis.call('HDEL', KEYS[1], 'p:tok', 'p:alone', 'p:waits', 'p:pass')
if ARGV[5] ~= '0' then redis.call('HSETNX', KEYS[1], 'p:ver', ARGV[5]) end
redis.call('HSET', KEYS[1], 'msg', ARGV[3], 'p:ltok', ARGV[2])
if over then
  redis.call('HSET', KEYS[1], 'state', 'pending', 'pending_since', now_ns)
  redis.call('LPUSH', KEYS[7], ARGV[1])
  return 3
end
redis.call('ZADD', KEYS[5], math.floor(due / 1000), ARGV[1])
redis.call('ZADD', KEYS[6], now_ms, ARGV[1])
redis.call('HSET', KEYS[1], 'state', 'retry', 'p:due', due,
  'p:wait', string.format('%d %.0f %s %s', redis.call('HINCRBY', KEYS[1], 'p:pn', 1), now_ms, ARGV[6], ARGV[7]))
return 1
