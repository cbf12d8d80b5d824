-- drive: send jobs that wait for a dependency or a limit back to their queue, longest waiting first, to be claimed next.
-- KEYS[1] perdure:{q}:lane:<name> <kind>   KEYS[2] perdure:{q}:lanes   KEYS[3] asynq:{q}:retry   KEYS[4] perdure:{q}:parked
-- KEYS[5] asynq:{q}:pending                KEYS[6] asynq:{q}:t: (the prefix: who is next is only known here)
-- KEYS[7] perdure:{q}:drove:<id of what was granted>:<number of the first>   KEYS[8] perdure:{q}:probes
-- ARGV[1] most jobs to send   ARGV[2] name of what was granted   ARGV[3] '<name> <kind>', the lane
-- ARGV[4] how a pass begins: '<pass or probe> <turn> '   ARGV[5] id of what was granted   ARGV[6] number of the first
-- ARGV[7] how long ago it was granted, ms: a pass is worth something for a while from then
-- Returns {sent, left}: left is how many entries the lane has. Sent twice, the jobs that it has sent are sent once.
-- An entry whose job has moved on, or waits anew, is dropped: its score is the since of the wait that it stands for. It looks
-- at 500 entries at most. The pass of a probe is a field of KEYS[8] too, until it is claimed: the queue may be paused for what the
-- probe is to find out, or is in the next moment.
local before = redis.call('GET', KEYS[7])
if before then return {tonumber(before), redis.call('ZCARD', KEYS[1])} end
local _, now_ms, now_ns = clock()
local sent, looked, keys, most, pass = 0, 0, {}, tonumber(ARGV[1]), nil
while sent < most and looked < 500 do
  local entries = redis.call('ZRANGE', KEYS[1], 0, math.min(100, most - sent) - 1, 'WITHSCORES')
  if #entries == 0 then break end
  for i = 1, #entries, 2 do
    local key, since = entries[i], entries[i + 1]
    local task = KEYS[6] .. key
    looked = looked + 1
    redis.call('ZREM', KEYS[1], key)
    local had = redis.pcall('HMGET', task, 'state', 'p:wait') -- what is no hash is no job
    local at, lane = string.match(had[2] or '', '^%d+ (%d+) %a+ (.*)$')
    if had[1] == 'retry' and lane == ARGV[3] and tonumber(at) == tonumber(since) and redis.call('ZREM', KEYS[3], key) == 1 then
      sent = sent + 1
      redis.call('ZREM', KEYS[4], key)
      redis.call('HDEL', task, 'p:due', 'p:wait')
      pass = string.format('%.0f %.0f %s%s:%d %s', tonumber(since), now_ms - tonumber(ARGV[7]), ARGV[4], ARGV[5], tonumber(ARGV[6]) + sent - 1, ARGV[2])
      redis.call('HSET', task, 'state', 'pending', 'pending_since', now_ns, 'p:pass', pass)
      table.insert(keys, 1, key)
    end
  end
end
for _, key in ipairs(keys) do redis.call('RPUSH', KEYS[5], key) end
if sent > 0 then redis.call('SET', KEYS[7], sent, 'EX', 10) end
if probes(pass, now_ms) then
  redis.call('HSET', KEYS[8], ARGV[2], pass)
  redis.call('EXPIRE', KEYS[8], 5)
end
local left = redis.call('ZCARD', KEYS[1])
if left == 0 then redis.call('SREM', KEYS[2], ARGV[3]) end
return {sent, left}
