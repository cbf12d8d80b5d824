-- continue: end an execution whose job begins anew with another payload. What is recorded of the round is forgotten, but for
-- signals that nobody has waited for yet. No attempt is used.
-- KEYS[1] asynq:{q}:t:<key>          KEYS[2] asynq:{q}:active     KEYS[3] asynq:{q}:lease
-- KEYS[4] perdure:{q}:own:<owner>    KEYS[5] asynq:{q}:pending
-- ARGV[1] key   ARGV[2] token   ARGV[3] message
-- Returns 1 back in the queue; 2 ended before by this token (sent twice); -1 no such job; -2 stale token.
local owns = ownership(KEYS[1], ARGV[2])
if owns ~= 1 then return owns end
local _, _, now_ns = clock()
release(KEYS[2], KEYS[3], KEYS[4], ARGV[1])
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local prefix, name = string.sub(field, 1, 2), string.sub(field, 3)
  if string.find('s: h: w: c: b: u: r:', prefix, 1, true) or prefix == 'i:' and redis.call('HEXISTS', KEYS[1], 'g:' .. name) == 0 then
    redis.call('HDEL', KEYS[1], field)
  end
end
redis.call('HDEL', KEYS[1], 'p:tok', 'p:att', 'p:waits', 'p:alone', 'p:ver', 'p:kids', 'p:undos', 'p:row', 'p:icr', 'p:pass')
redis.call('HINCRBY', KEYS[1], 'p:round', 1)
redis.call('HSET', KEYS[1], 'msg', ARGV[3], 'state', 'pending', 'pending_since', now_ns, 'p:ltok', ARGV[2])
redis.call('LPUSH', KEYS[5], ARGV[1])
return 1
