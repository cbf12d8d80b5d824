-- plan: make a replay plan. Its entries are selected next, by whoever runs plans.
-- KEYS[1] perdure:{q}:plan:<id>   KEYS[2] perdure:{q}:plans   KEYS[3] perdure:{q}:planning   KEYS[4] perdure:{q}:events
-- ARGV[1] id   ARGV[2] what was asked for   ARGV[3] rate, a second   ARGV[4] 'failed' or 'start'
-- ARGV[5] stage: '1', or 'all' without a canary   ARGV[6] '1' to keep going when the failure returns
-- ARGV[7] actor   ARGV[8] reason   ARGV[9] how many entries it takes at most; 0: all
-- ARGV[10] how long it is kept after its end, s
-- Returns 1 made; 2 there is a plan of this id, which stays as it is.
if redis.call('EXISTS', KEYS[1]) == 1 then return 2 end
local _, now_ms = clock()
redis.call('HSET', KEYS[1], 'asked', ARGV[2], 'state', 'selecting', 'at', now_ms, 'rate', ARGV[3], 'from', ARGV[4],
  'canary', ARGV[5], 'stage', ARGV[5], 'on', ARGV[6], 'by', ARGV[7] .. ': ' .. ARGV[8], 'cursor', '',
  'most', ARGV[9], 'keep', ARGV[10])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms - 31536000000)
redis.call('ZADD', KEYS[2], now_ms, ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
decision(KEYS[4], 'plan replay ' .. ARGV[1], '', ARGV[7], ARGV[8], '', 'selecting')
return 1
