-- erase: forget what a quarantined job works on and what its steps have given: payload, outputs, progress, signals and
-- edits. The rest of its story stays. It can be replayed with another payload, from the start.
-- KEYS[1] asynq:{q}:t:<key>   KEYS[2] perdure:{q}:events   KEYS[3] perdure:{q}:decided:<nonce> of this decision
-- ARGV[1] key   ARGV[2] the message as it was read   ARGV[3] the message to store   ARGV[4] actor   ARGV[5] reason
-- Returns 1 erased; 2 it was erased before; 0 the message has changed: read again; -1 no such job; -3 it is not
-- quarantined. Sent twice, what it answered before.
local before = taken(KEYS[3])
if before then return before end
local had = redis.call('HMGET', KEYS[1], 'msg', 'state', 'p:erased')
if not had[1] then return -1 end
if had[2] ~= 'archived' then return -3 end
if had[3] then return 2 end
if had[1] ~= ARGV[2] then return 0 end
decision(KEYS[2], 'erase', ARGV[1], ARGV[4], ARGV[5], 'quarantined', 'quarantined, erased')
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local prefix = string.sub(field, 1, 2)
  if string.find('h: g: e:', prefix, 1, true) or field == 'result' then
    redis.call('HDEL', KEYS[1], field)
  elseif prefix == 's:' then
    redis.call('HSET', KEYS[1], field, string.match(redis.call('HGET', KEYS[1], field), '^%d+ %d+ %d+ ') or '')
  end
end
redis.call('HSET', KEYS[1], 'msg', ARGV[3], 'p:erased', ARGV[4] .. ': ' .. ARGV[5])
return took(KEYS[3], 1)
