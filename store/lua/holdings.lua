-- holdings: what an owner holds in a queue; keeps asynq's lease of each.
-- KEYS[1] perdure:{q}:own:<owner>   KEYS[2] asynq:{q}:lease   KEYS[3] asynq:{q}:t: (the prefix)
-- ARGV[1] lease in seconds
-- Returns {key, token, cancel asked 0|1, …}; {'!fenced', '', 0} when the owner was declared dead.
if redis.call('HEXISTS', KEYS[1], '!fenced') == 1 then return {'!fenced', '', 0} end
local now = clock()
local held, reply = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #held, 2 do
  redis.call('ZADD', KEYS[2], 'XX', now + tonumber(ARGV[1]), held[i])
  reply[#reply + 1] = held[i]
  reply[#reply + 1] = held[i + 1]
  reply[#reply + 1] = redis.call('HEXISTS', KEYS[3] .. held[i], 'p:can')
end
return reply
