-- hold: pause a queue for a reason, or take that reason back. asynq's paused key stands while any reason does.
-- KEYS[1] asynq:{q}:paused   KEYS[2] perdure:{q}:holds   KEYS[3] perdure:{q}:events
-- KEYS[4] perdure:{q}:decided:<nonce> of this decision
-- ARGV[1] 'pause' or 'resume'   ARGV[2] name of the reason   ARGV[3] actor   ARGV[4] why
-- Returns 1 changed; 2 it was so before; 3 the reason is gone, but others still pause the queue. Sent
-- twice, what it answered before: a decision that was taken in between stands.
local before = taken(KEYS[4])
if before then return before end
local now, by = clock(), redis.call('GET', KEYS[1])
local ours = string.format('perdure %d', now)
if ARGV[1] == 'pause' then
  local paused = by and true or false
  if paused and redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return 2 end
  if foreign(by) and ARGV[2] ~= 'operator' and redis.call('HEXISTS', KEYS[2], 'operator') == 0 then
    -- Somebody has paused it with asynq's tools, which know no reasons: it must not end with this one.
    redis.call('HSET', KEYS[2], 'operator', "asynq: paused with asynq's own tools")
  end
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ': ' .. ARGV[4])
  if not paused then redis.call('SET', KEYS[1], ours) end
  decision(KEYS[3], 'pause queue', '', ARGV[3], ARGV[4], paused and 'paused' or 'open', 'paused')
  return took(KEYS[4], 1)
end
local known = redis.call('HDEL', KEYS[2], ARGV[2])
if ARGV[2] ~= 'operator' and known == 0 then return 2 end
if redis.call('HLEN', KEYS[2]) > 0 then
  local taken_back = ARGV[2] == 'operator' and foreign(by)
  if taken_back then redis.call('SET', KEYS[1], ours) end
  if known == 0 and not taken_back then return 3 end
  decision(KEYS[3], 'resume queue', '', ARGV[3], ARGV[4], 'paused', 'paused')
  return took(KEYS[4], 3)
end
-- A pause set by asynq's own tools has no reason on record; an operator's resuming takes it back too, and nothing else does.
if ARGV[2] ~= 'operator' and foreign(by) then
  decision(KEYS[3], 'resume queue', '', ARGV[3], ARGV[4], 'paused', 'paused')
  return took(KEYS[4], 3)
end
if redis.call('DEL', KEYS[1]) + known == 0 then return 2 end
decision(KEYS[3], 'resume queue', '', ARGV[3], ARGV[4], 'paused', 'open')
return took(KEYS[4], 1)
