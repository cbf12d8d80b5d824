-- replay: return a quarantined job to its queue, from the failed step or from the start. Key and incarnation stay.
-- KEYS[1] asynq:{q}:t:<key>    KEYS[2] asynq:{q}:pending   KEYS[3] asynq:{q}:archived   KEYS[4] perdure:{q}:dead
-- KEYS[5] perdure:{q}:events   KEYS[6] perdure:{q}:decided:<nonce> of this decision
-- ARGV[1] key   ARGV[2] the message as it was read   ARGV[3] the message to store   ARGV[4] 'failed' or 'start'
-- ARGV[5] actor   ARGV[6] reason
-- Returns 1 back in the queue; 0 the message has changed: read again; -1 no such job; -3 it is not quarantined. Sent
-- twice, what it answered before: also when the job runs again by then, or is quarantined again.
local before = taken(KEYS[6])
if before then return before end
local had = redis.call('HMGET', KEYS[1], 'msg', 'state')
if not had[1] then return -1 end
if had[2] ~= 'archived' then return -3 end
if had[1] ~= ARGV[2] then return 0 end
local _, _, now_ns = clock()
decision(KEYS[5], 'replay', ARGV[1], ARGV[5], ARGV[6])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
if ARGV[4] == 'start' then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    local prefix = string.sub(field, 1, 2)
    if string.find('s: h: w: g: i: c: b:', prefix, 1, true) then redis.call('HDEL', KEYS[1], field) end
  end
  redis.call('HDEL', KEYS[1], 'p:ver')
elseif redis.call('HEXISTS', KEYS[1], 'p:kids') == 1 then
  -- That children have failed is forgotten: they are looked at again.
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    local step = string.sub(field, 1, 2) == 'c:' and 's:' .. string.sub(field, 3)
    if step and string.find(redis.call('HGET', KEYS[1], step) or '', '^%d+ %d+ %d+ f') then redis.call('HDEL', KEYS[1], step) end
  end
end
redis.call('HDEL', KEYS[1], 'p:dead', 'p:att', 'p:waits', 'p:cra', 'p:icr', 'p:blame')
redis.call('HSET', KEYS[1], 'msg', ARGV[3], 'state', 'pending', 'pending_since', now_ns)
redis.call('LPUSH', KEYS[2], ARGV[1])
return took(KEYS[6], 1)
