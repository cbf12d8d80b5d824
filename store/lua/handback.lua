-- handback: put a running job back at the head of its queue. Nothing is used.
-- KEYS[1] asynq:{q}:t:<key>          KEYS[2] asynq:{q}:active     KEYS[3] asynq:{q}:lease
-- KEYS[4] perdure:{q}:own:<owner>    KEYS[5] asynq:{q}:pending
-- ARGV[1] key   ARGV[2] token
-- Returns 1 back in the queue; 2 ended before by this token (sent twice); -1 no such job; -2 stale token. In the
-- last two cases the owner's list forgets the key if it still names this token; of a job that was deleted while it ran
-- nothing stays behind.
local owns = ownership(KEYS[1], ARGV[2])
if owns ~= 1 then
  if redis.call('HGET', KEYS[4], ARGV[1]) == ARGV[2] then
    if owns == -1 then
      release(KEYS[2], KEYS[3], KEYS[4], ARGV[1])
    else
      redis.call('HDEL', KEYS[4], ARGV[1])
    end
  end
  return owns
end
release(KEYS[2], KEYS[3], KEYS[4], ARGV[1])
redis.call('RPUSH', KEYS[5], ARGV[1])
redis.call('HDEL', KEYS[1], 'p:tok', 'p:alone')
redis.call('HSET', KEYS[1], 'state', 'pending', 'p:ltok', ARGV[2])
return 1
