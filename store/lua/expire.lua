-- expire: forget ended jobs whose retention is over. A child stays while its parent may ask for it; the parent may be in
-- another slot, so the caller looks. A cancelled job stays until its children are told.
-- KEYS[1] asynq:{q}:completed   KEYS[2] asynq:{q}:t: (the prefix: which jobs are over is only known here)
-- KEYS[3] perdure:{q}:forgotten   KEYS[4] perdure:{q}:orphans
-- ARGV[1] most entries to look at   ARGV[2] for how long what stays does so, in seconds
-- ARGV[3], ARGV[4], … pairs of a child's key and its p:parent, of children that nobody asks for any more
-- Returns {entries that left the set, key, p:parent, …}: the children that stay for now. An entry that was left behind by
-- a job deleted elsewhere takes no later job of the same key with it.
local now = clock()
local forgotten, left, reply = 0, 0, {0}

local function forget(key, completed)
  if completed then forgotten = forgotten + redis.call('DEL', KEYS[2] .. key) end
  left = left + redis.call('ZREM', KEYS[1], key)
end

for i = 3, #ARGV - 1, 2 do
  local had = redis.call('HMGET', KEYS[2] .. ARGV[i], 'state', 'p:parent')
  if had[1] == 'completed' and had[2] == ARGV[i + 1] then forget(ARGV[i], true) end
end
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))) do
  local had = redis.call('HMGET', KEYS[2] .. key, 'state', 'p:parent')
  local completed = had[1] == 'completed'
  if completed and (had[2] or redis.call('ZSCORE', KEYS[4], key)) then
    local expires = now + tonumber(ARGV[2])
    redis.call('ZADD', KEYS[1], expires, key)
    redis.call('HSET', KEYS[2] .. key, 'p:exp', expires)
    if had[2] then
      reply[#reply + 1] = key
      reply[#reply + 1] = had[2]
    end
  else
    forget(key, completed)
  end
end
if forgotten > 0 then redis.call('INCRBY', KEYS[3], forgotten) end
reply[1] = left
return reply
