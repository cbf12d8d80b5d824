-- restore: put a quarantined job that was exported back into quarantine, as it was.
-- KEYS[1] asynq:{q}:t:<key>      KEYS[2] asynq:{q}:archived   KEYS[3] perdure:{q}:dead   KEYS[4] perdure:{q}:groups
-- KEYS[5] perdure:{q}:events     KEYS[6] perdure:{q}:tokens     KEYS[7] perdure:{q}:forgotten
-- ARGV[1] key   ARGV[2] when it was quarantined, ms   ARGV[3] its entry, '' without one   ARGV[4] signature   ARGV[5] what its group is
-- about   ARGV[6] the kind's version, 0: not known   ARGV[7] actor   ARGV[8] reason   ARGV[9] its message   ARGV[10] how many
-- fields, and after it each field and its value
-- Returns 1 restored; 2 it is there already; -3 the key is another job's by now, or this one's, replayed.
-- Where jobs are counted as gone this is one of them. A group that is there keeps its state and its counts: this is nothing new. The queue is perdure's from now on.
if redis.call('EXISTS', KEYS[1]) == 1 then
  local had = redis.call('HMGET', KEYS[1], 'p:dead', 'msg', 'p:erased')
  local since = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[1]) or 0)
  if (had[1] or '') == ARGV[3] and since == tonumber(ARGV[2]) and (had[2] == ARGV[9] or had[3]) then return 2 end
  return -3
end
for i = 11, 10 + 2 * tonumber(ARGV[10]), 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('ZADD', KEYS[2], math.floor(tonumber(ARGV[2]) / 1000), ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
redis.call('SETNX', KEYS[6], 0)
if redis.call('ZSCORE', KEYS[4], ARGV[4]) then
  redis.call('ZADD', KEYS[4] .. ':' .. ARGV[4] .. ':keys', ARGV[2], ARGV[1])
  redis.call('HSET', KEYS[1], 'p:sig', ARGV[4])
else
  grouped(KEYS[1], ARGV[1], KEYS[4], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[2]), KEYS[5])
end
if tonumber(redis.call('GET', KEYS[7]) or 0) > 0 then redis.call('DECR', KEYS[7]) end
decision(KEYS[5], 'import', ARGV[1], ARGV[7], ARGV[8], 'in a file', 'quarantined')
return 1
