-- await: what a wait of a job has come to. It is recorded as a step, once; until then the wait is armed.
-- KEYS[1] asynq:{q}:t:<key>
-- ARGV[1] token   ARGV[2] name   ARGV[3] execution   ARGV[4] type: 'timer' or 'signal'
-- ARGV[5] how long to wait at most, ms, from when it is armed; '' when ARGV[6] says until when (unix ms), or 0: for ever
-- ARGV[7] most fields that a job may have
-- Returns {code, asked, output}: code 1 it is over and recorded; 2 it was recorded before; 0 it is armed; -1 no such job;
-- -2 stale token; -4 too many fields. The output is 't' when its time is up, else 'd' and the signal's data. asked is 0
-- nothing, 1 to be cancelled, 2 to be paused.
-- w:<name> is '<until ms, 0: for ever> <since ms> <type>'; g:<name> is a signal that was not waited for yet.
local owns = ownership(KEYS[1], ARGV[1])
if owns == 2 then owns = -2 end
if owns ~= 1 then return {owns, 0, ''} end
local had = redis.call('HMGET', KEYS[1], 's:' .. ARGV[2], 'w:' .. ARGV[2], 'g:' .. ARGV[2])
local wanted = asked(KEYS[1])
if had[1] then return {2, wanted, string.match(had[1], '^%d+ %d+ %d+ (.*)$') or ''} end
local _, now_ms = clock()
local till, since
if had[2] then
  till, since = string.match(had[2], '^(%d+) (%d+)')
  till, since = tonumber(till), tonumber(since)
else
  if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[7]) then return {-4, wanted, ''} end
  since = now_ms
  till = ARGV[5] ~= '' and now_ms + tonumber(ARGV[5]) or tonumber(ARGV[6])
end
local output
if had[3] then
  output = 'd' .. had[3]
elseif till > 0 and till <= now_ms then
  output = 't'
else
  if not had[2] then redis.call('HSET', KEYS[1], 'w:' .. ARGV[2], string.format('%.0f %.0f %s', till, since, ARGV[4])) end
  return {0, wanted, ''}
end
redis.call('HSET', KEYS[1], 's:' .. ARGV[2], string.format('%s %.0f %.0f ', ARGV[3], since, now_ms) .. output)
redis.call('HDEL', KEYS[1], 'w:' .. ARGV[2], 'g:' .. ARGV[2], 'p:waits', 'p:row')
return {1, wanted, output}
