-- holdings: what an owner holds in a queue; keeps asynq's lease of each.
-- KEYS[1] perdure:{q}:own:<owner>   KEYS[2] asynq:{q}:lease   KEYS[3] asynq:{q}:t: (the prefix)
-- KEYS[4] perdure:{q}:suspects
-- ARGV[1] lease in seconds
-- Returns {suspects, key, token, asked, …}: how many suspects may run now, and what the owner holds; {-1} when
-- the owner was declared dead. asked is 0 nothing, 1 to be cancelled, 2 to be paused.
if redis.call('HEXISTS', KEYS[1], '!fenced') == 1 then return {-1} end
local now, now_ms = clock()
local held, reply = redis.call('HGETALL', KEYS[1]), {redis.call('ZCOUNT', KEYS[4], '-inf', now_ms)}
for i = 1, #held, 2 do
  redis.call('ZADD', KEYS[2], 'XX', now + tonumber(ARGV[1]), held[i])
  reply[#reply + 1] = held[i]
  reply[#reply + 1] = held[i + 1]
  reply[#reply + 1] = asked(KEYS[3] .. held[i])
end
return reply
