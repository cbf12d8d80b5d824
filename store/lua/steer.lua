-- steer: pause, resume or abort a replay plan. Entries that it has replayed go on.
-- KEYS[1] perdure:{q}:plan:<id>        KEYS[2] perdure:{q}:planning          KEYS[3] perdure:{q}:events
-- KEYS[4] perdure:{q}:plan:<id>:left   KEYS[5] perdure:{q}:plan:<id>:out
-- KEYS[6] perdure:{q}:decided:<nonce> of this decision
-- ARGV[1] id   ARGV[2] 'pause', 'resume' or 'abort'   ARGV[3] actor   ARGV[4] reason
-- Returns 1 done; 2 it was so before; -1 no such plan; -3 it has ended. Sent twice, what it answered before.
-- A plan that goes on after the failure was back begins with its canary again.
local before = taken(KEYS[6])
if before then return before end
local had = redis.call('HMGET', KEYS[1], 'state', 'canary', 'back', 'keep')
local state = had[1]
if not state then return -1 end
if state == 'done' or state == 'aborted' then return -3 end
local waits = state == 'paused' or state == 'stopped'
if ARGV[2] == 'pause' and waits or ARGV[2] == 'resume' and not waits then return 2 end
local _, now_ms = clock()
local becomes = {pause = 'paused', resume = had[3] or 'running', abort = 'aborted'}
decision(KEYS[3], ARGV[2] .. ' plan ' .. ARGV[1], '', ARGV[3], ARGV[4], state, becomes[ARGV[2]])
if ARGV[2] == 'pause' then
  redis.call('HSET', KEYS[1], 'state', 'paused', 'back', state, 'why', ARGV[3] .. ': ' .. ARGV[4])
elseif ARGV[2] == 'resume' then
  if state == 'stopped' then redis.call('HSET', KEYS[1], 'stage', had[2], 'sent', 0, 'pardon', now_ms) end
  redis.call('HSET', KEYS[1], 'state', becomes.resume)
  redis.call('HDEL', KEYS[1], 'back', 'why', 'next')
else
  redis.call('HSET', KEYS[1], 'state', 'aborted', 'ended', now_ms, 'why', ARGV[3] .. ': ' .. ARGV[4],
    'unsent', redis.call('ZCARD', KEYS[4]), 'unended', redis.call('ZCARD', KEYS[5]))
  redis.call('SREM', KEYS[2], ARGV[1])
  redis.call('UNLINK', KEYS[4], KEYS[5])
  redis.call('EXPIRE', KEYS[1], had[4] or 7776000)
end
return took(KEYS[6], 1)
