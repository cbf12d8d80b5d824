-- spawn: make children of a job, as asynq's client makes a task with an id of its own. What is there already is not touched.
-- KEYS[1] asynq:{q}:pending   KEYS[2] asynq:{q}:scheduled   KEYS[3], KEYS[4], … asynq:{q}:t:<key> of each child
-- ARGV[1] until when, ms: a parent that was frozen since its claim to them was looked at must not make them
-- and then five of each child: key, message, p:parent, delay in ms or 0, unix second before which it does not start or 0
-- Returns the code of each child: 1 made; 2 it was there. {-5} it is too late; {-4, which} the key of one is taken by
-- a job that is not this child: none was made.
local now, now_ms, now_ns = clock()
if now_ms > tonumber(ARGV[1]) then return {-5} end
local codes = {}
for i = 1, #KEYS - 2 do
  local had = redis.call('HMGET', KEYS[i + 2], 'msg', 'p:parent')
  if had[2] == ARGV[i * 5 - 1] then
    codes[i] = 2
  elseif had[1] or had[2] or redis.call('EXISTS', KEYS[i + 2]) == 1 then
    return {-4, i}
  else
    codes[i] = 1
  end
end
for i = 1, #codes do
  if codes[i] == 1 then
    local at = i * 5 - 3
    local due = tonumber(ARGV[at + 4])
    if tonumber(ARGV[at + 3]) > 0 then due = math.ceil((now_ms + tonumber(ARGV[at + 3])) / 1000) end
    redis.call('HSET', KEYS[i + 2], 'msg', ARGV[at + 1], 'p:parent', ARGV[at + 2])
    if due > now then
      redis.call('HSET', KEYS[i + 2], 'state', 'scheduled')
      redis.call('ZADD', KEYS[2], due, ARGV[at])
    else
      redis.call('HSET', KEYS[i + 2], 'state', 'pending', 'pending_since', now_ns)
      redis.call('LPUSH', KEYS[1], ARGV[at])
    end
  end
end
return codes
