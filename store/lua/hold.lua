-- hold: pause a queue for a reason, or take that reason back. asynq's paused key stands while any reason does.
-- KEYS[1] asynq:{q}:paused   KEYS[2] perdure:{q}:holds   KEYS[3] perdure:{q}:events
-- KEYS[4] perdure:{q}:decided:<nonce> of this decision
-- ARGV[1] 'pause' or 'resume'   ARGV[2] name of the reason   ARGV[3] actor   ARGV[4] why
-- Returns 1 changed; 2 it was so before; 3 the reason is gone, but others still pause the queue. Sent
-- twice, what it answered before: a decision that was taken in between stands.
local before = taken(KEYS[4])
if before then return before end
local now = clock()
if ARGV[1] == 'pause' then
  local paused = redis.call('EXISTS', KEYS[1]) == 1
  if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 and paused then return 2 end
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ': ' .. ARGV[4])
  redis.call('SETNX', KEYS[1], now)
  decision(KEYS[3], 'pause queue', '', ARGV[3], ARGV[4], paused and 'paused' or 'open', 'paused')
  return took(KEYS[4], 1)
end
local known = redis.call('HDEL', KEYS[2], ARGV[2])
if redis.call('HLEN', KEYS[2]) > 0 then
  if known == 0 then return 3 end
  decision(KEYS[3], 'resume queue', '', ARGV[3], ARGV[4], 'paused', 'paused')
  return took(KEYS[4], 3)
end
-- A pause set by asynq's own tools has no reason on record; resuming takes it back too.
if redis.call('DEL', KEYS[1]) + known == 0 then return 2 end
decision(KEYS[3], 'resume queue', '', ARGV[3], ARGV[4], 'paused', 'open')
return took(KEYS[4], 1)
