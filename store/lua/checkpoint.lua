-- checkpoint: record the output of a step that has ended. It is recorded once and never changes.
-- KEYS[1] asynq:{q}:t:<key>
-- ARGV[1] token   ARGV[2] step   ARGV[3] execution   ARGV[4] how long the step took, ms   ARGV[5] output
-- ARGV[6] most recorded steps a job may have   ARGV[7] 1: it can be undone
-- Returns {code, asked}: code 1 recorded; 2 recorded before by this execution (sent twice); -1 no such job; -2 stale
-- token; -3 another execution recorded the step; -4 too many steps. asked is 0 nothing, 1 to be cancelled, 2 to be paused.
local owns = ownership(KEYS[1], ARGV[1])
if owns == 2 then return {-2, 0} end
if owns ~= 1 then return {owns, 0} end
local wanted = asked(KEYS[1])
local field = 's:' .. ARGV[2]
local before = redis.call('HGET', KEYS[1], field)
if before then
  if string.match(before, '^(%d+) ') == ARGV[3] then return {2, wanted} end
  return {-3, wanted}
end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then return {-4, wanted} end
local _, now_ms = clock()
local record = string.format('%s %.0f %.0f ', ARGV[3], now_ms - tonumber(ARGV[4]), now_ms) .. ARGV[5]
redis.call('HSET', KEYS[1], field, record)
redis.call('HDEL', KEYS[1], 'h:' .. ARGV[2], 'w:' .. ARGV[2], 'p:waits', 'p:row')
if ARGV[7] == '1' then redis.call('HSET', KEYS[1], 'u:' .. ARGV[2], redis.call('HINCRBY', KEYS[1], 'p:undos', 1)) end
return {1, wanted}
