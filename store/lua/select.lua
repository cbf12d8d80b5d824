-- select: add a slice of entries to a replay plan. Whoever selects passes on how far it has come, so that another can go
-- on, and two that do so at the same time add each slice once.
-- KEYS[1] perdure:{q}:plan:<id>   KEYS[2] perdure:{q}:plan:<id>:left
-- ARGV[1] the cursor that the slice began at   ARGV[2] the next one, '' after the last slice
-- ARGV[3] how many of the slice cannot be replayed   ARGV[4] how many can, and for each when it was quarantined (ms) and
-- its key
-- Returns 1 added; 0 another has gone on from there, or the plan does not select any more; -1 no such plan.
local had = redis.call('HMGET', KEYS[1], 'state', 'cursor', 'by')
if not had[3] then return -1 end
if had[1] ~= 'selecting' or had[2] ~= ARGV[1] then return 0 end
local added = 0
for i = 5, 4 + 2 * tonumber(ARGV[4]), 2 do
  added = added + redis.call('ZADD', KEYS[2], 'NX', ARGV[i], ARGV[i + 1])
end
redis.call('HINCRBY', KEYS[1], 'selected', added)
redis.call('HINCRBY', KEYS[1], 'skipped', ARGV[3])
redis.call('HSET', KEYS[1], 'cursor', ARGV[2])
if ARGV[2] == '' then redis.call('HSET', KEYS[1], 'state', 'running') end
return 1
