-- absolve: take back the crash that a reclaim counted for a job, because the owner was not dead after all.
-- KEYS[1] asynq:{q}:t:<key>
-- ARGV[1] the token that the job was reclaimed from
-- Returns 1 taken back; 0 there is no crash of this token to take back (sent twice, or another has followed).
local blame = redis.call('HGET', KEYS[1], 'p:blame')
if not blame or string.sub(blame, 3) ~= ARGV[1] then return 0 end
local counted = {'p:cra', 'p:row'}
if string.sub(blame, 1, 1) == '1' then counted[3] = 'p:icr' end
for _, field in ipairs(counted) do
  if tonumber(redis.call('HGET', KEYS[1], field) or 0) > 1 then
    redis.call('HINCRBY', KEYS[1], field, -1)
  else
    redis.call('HDEL', KEYS[1], field)
  end
end
redis.call('HDEL', KEYS[1], 'p:blame')
return 1
